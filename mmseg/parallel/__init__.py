"""Several processes that train one network: how they meet, agree and learn of each other's ends."""
