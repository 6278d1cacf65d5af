"""Distributed training: rendezvous, collectives, and how processes learn that another has ended."""
