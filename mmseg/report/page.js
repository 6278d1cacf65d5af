"use strict";
(() => {
  const root = document.documentElement;
  root.classList.add("js");
  const data = JSON.parse(document.getElementById("data").textContent);
  const byId = (id) => document.getElementById(id);
  const all = (selector, within = document) => [...within.querySelectorAll(selector)];
  const percent = (value) => (value === null || value === undefined ? "–" : value.toFixed(1));

  // Navigation: show that there is more to the left or right.
  const bar = document.querySelector(".bar");
  const links = bar.querySelector("ul");
  const markSides = () => {
    bar.classList.toggle("before", links.scrollLeft > 4);
    bar.classList.toggle("after", links.scrollLeft + links.clientWidth < links.scrollWidth - 4);
  };
  links.addEventListener("scroll", markSides, { passive: true });
  window.addEventListener("resize", markSides);
  markSides();

  // Confusion: one matrix at a time; a single stop of the Tab key, arrow keys inside.
  const readout = byId("confusion-readout");
  const describe = (cell) => {
    const row = cell.parentElement;
    const i = row.rowIndex - 1;
    const j = cell.cellIndex - 1;
    const total = all("td", row).reduce((sum, td) => sum + Number(td.dataset.n), 0);
    const count = Number(cell.dataset.n);
    const share = total ? `${((100 * count) / total).toFixed(2)} %` : "no pixel labelled";
    const verb = i === j ? "predicted correctly" : `predicted as ${data.classes[j]}`;
    readout.textContent = `${data.classes[i]} ${verb}: ${share} (${count.toLocaleString("en")} of ${total.toLocaleString("en")} pixels)`;
  };
  for (const table of all("table.heat")) {
    const cells = all("td[data-n]", table);
    const width = data.classes.length;
    table.setAttribute("role", "grid");
    cells.forEach((cell, n) => {
      cell.tabIndex = n ? -1 : 0;
      cell.setAttribute("role", "gridcell");
    });
    const reach = (cell) => {
      const now = table.querySelector('td[tabindex="0"]');
      now.tabIndex = -1;
      cell.tabIndex = 0;
    };
    table.addEventListener("pointerover", (event) => {
      const cell = event.target.closest("td[data-n]");
      if (cell) describe(cell);
    });
    table.addEventListener("focusin", (event) => {
      const cell = event.target.closest("td[data-n]");
      if (!cell) return;
      reach(cell);
      describe(cell);
    });
    table.addEventListener("keydown", (event) => {
      const cell = event.target.closest("td[data-n]");
      const step = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -width, ArrowDown: width }[event.key];
      if (!cell || !step) return;
      event.preventDefault();
      const at = cells.indexOf(cell);
      const sideways = Math.abs(step) === 1;
      const next = at + step;
      if (next < 0 || next >= cells.length) return;
      if (sideways && Math.floor(next / width) !== Math.floor(at / width)) return;
      cells[next].focus();
    });
  }
  const matrixChoice = byId("confusion-test");
  if (matrixChoice) {
    matrixChoice.addEventListener("change", () => {
      for (const matrix of all(".matrix")) matrix.hidden = matrix.id !== `matrix-${matrixChoice.value}`;
    });
  }

  // Curves: pointer and slider move one cursor.
  data.charts.forEach((lines, number) => {
    const chart = document.querySelector(`svg[data-chart="${number}"]`);
    const slider = document.querySelector(`[data-scrub="${number}"]`);
    const value = document.querySelector(`[data-value="${number}"]`);
    const longest = Object.values(lines).reduce((a, b) => (b[0].length > a[0].length ? b : a))[0];
    const xs = Object.values(lines).flatMap((line) => line[0]);
    const low = Math.min(...xs);
    const span = Math.max(Math.max(...xs) - low, 1);
    const left = Number(chart.dataset.left);
    const width = Number(chart.dataset.width);
    const nearest = (iterations, x) =>
      iterations.reduce((best, at, n) => (Math.abs(at - x) < Math.abs(iterations[best] - x) ? n : best), 0);
    const show = (n, moved) => {
      const x = longest[n];
      const parts = Object.entries(lines).map(([run, [iterations, values]]) => {
        const text = String(values[nearest(iterations, x)]);
        return data.runs.length > 1 ? `${data.runs[run]} ${text}` : text;
      });
      value.textContent = `iteration ${x.toLocaleString("en")}: ${parts.join(" · ")}`;
      if (slider) slider.setAttribute("aria-valuetext", value.textContent);
      if (!moved) return;
      const cursor = chart.querySelector(".cursor");
      const px = left + ((x - low) / span) * width;
      cursor.setAttribute("x1", px);
      cursor.setAttribute("x2", px);
    };
    show(longest.length - 1, false);
    if (!slider) return;
    slider.addEventListener("input", () => show(Number(slider.value), true));
    chart.addEventListener("pointermove", (event) => {
      const box = chart.getBoundingClientRect();
      const at = ((event.clientX - box.left) / box.width) * chart.viewBox.baseVal.width;
      slider.value = nearest(longest, low + ((at - left) / width) * span);
      show(Number(slider.value), true);
    });
  });

  // Frames.
  const list = byId("frames");
  if (!list) return;
  const cards = all(".frame", list);
  const chosen = (id, otherwise) => (byId(id) ? byId(id).value : otherwise);
  const pictureOf = (card, key) => card.querySelector(`.strip img[data-key="${key}"]`);

  const pixelsOf = new WeakMap();
  const pixels = (image) => {
    if (!pixelsOf.has(image)) {
      const canvas = document.createElement("canvas");
      canvas.width = image.naturalWidth;
      canvas.height = image.naturalHeight;
      const context = canvas.getContext("2d", { willReadFrequently: true });
      context.drawImage(image, 0, 0);
      pixelsOf.set(image, context.getImageData(0, 0, canvas.width, canvas.height));
    }
    return pixelsOf.get(image);
  };
  const names = new Map(data.colors.map((color, n) => [color.join(), data.classes[n]]));

  // Wrong pixels in red over the rest in grey; ignored ones stay clear.
  const errorMaps = new WeakMap();
  const errorsOf = (predicted, label) => {
    if (!errorMaps.has(predicted)) {
      const seen = pixels(predicted);
      const truth = pixels(label);
      if (seen.width !== truth.width || seen.height !== truth.height) return null;
      const canvas = document.createElement("canvas");
      canvas.width = seen.width;
      canvas.height = seen.height;
      const context = canvas.getContext("2d");
      const map = context.createImageData(seen.width, seen.height);
      for (let i = 0; i < map.data.length; i += 4) {
        const [r, g, b] = [truth.data[i], truth.data[i + 1], truth.data[i + 2]];
        if (!names.has(`${r},${g},${b}`)) continue;
        const wrong = r !== seen.data[i] || g !== seen.data[i + 1] || b !== seen.data[i + 2];
        map.data.set(wrong ? [239, 68, 68, 255] : [226, 232, 240, 255], i);
      }
      context.putImageData(map, 0, 0);
      errorMaps.set(predicted, canvas.toDataURL());
    }
    return errorMaps.get(predicted);
  };

  const sourceOf = async (card, key) => {
    if (key.startsWith("errors-")) {
      const predicted = pictureOf(card, key.slice(7));
      const label = pictureOf(card, "label");
      if (!predicted || !label) return null;
      await Promise.all([predicted.decode(), label.decode()]);
      return errorsOf(predicted, label);
    }
    const picture = pictureOf(card, key);
    return picture && picture.src;
  };
  const layer = async (card, key, kind) => {
    const image = card.querySelector(`.stage .${kind}`);
    if (!image) return;
    image.dataset.key = key;
    const source = await sourceOf(card, key);
    if (image.dataset.key !== key) return;
    image.hidden = !source;
    if (source) image.src = source;
    image.classList.toggle("map", key.startsWith("test") || key === "label");
  };
  const choose = (card, key) => {
    layer(card, key, "over");
    for (const radio of all(".strip input", card)) radio.checked = radio.value === key;
  };
  const slide = (card, value) => {
    const slider = card.querySelector(".slide");
    if (!slider) return;
    slider.value = value;
    card.style.setProperty("--p", value / 100);
  };
  const applyBase = () => cards.forEach((card) => layer(card, chosen("base", "image"), "base"));
  const applyOver = () => cards.forEach((card) => choose(card, chosen("over", "test0")));
  const applyMode = () => {
    list.dataset.mode = chosen("mode", "wipe");
  };

  // What the stage shows, as a PNG of the size of its pictures.
  const snapshot = (card) => {
    const [base, over] = ["base", "over"].map((kind) => card.querySelector(`.stage .${kind}`));
    const images = [base, over].filter((image) => image.src && !image.hidden);
    const canvas = document.createElement("canvas");
    canvas.width = Math.max(...images.map((image) => image.naturalWidth));
    canvas.height = Math.max(...images.map((image) => image.naturalHeight));
    const context = canvas.getContext("2d");
    const share = Number(card.querySelector(".slide").value) / 100;
    for (const image of images) {
      context.save();
      if (image === over && images.length > 1) {
        if (list.dataset.mode === "blend") {
          context.globalAlpha = share;
        } else {
          context.beginPath();
          context.rect(0, 0, Math.round(share * canvas.width), canvas.height);
          context.clip();
        }
      }
      context.imageSmoothingEnabled = !image.classList.contains("map");
      context.drawImage(image, 0, 0, canvas.width, canvas.height);
      context.restore();
    }
    return canvas;
  };
  const save = (card) => {
    const link = document.createElement("a");
    link.href = snapshot(card).toDataURL("image/png");
    link.download = `${data.frames[Number(card.dataset.frame)].name}.png`;
    link.click();
  };

  for (const card of cards) {
    const slider = card.querySelector(".slide");
    const stage = card.querySelector(".stage");
    if (!slider) continue;
    slider.addEventListener("input", () => slide(card, slider.value));
    card.querySelector(".save").addEventListener("click", () => save(card));
    card.addEventListener("change", (event) => {
      if (event.target.type === "radio") choose(card, event.target.value);
    });
    const note = card.querySelector(".under");
    const drag = (event) => {
      const box = stage.getBoundingClientRect();
      slide(card, Math.round(Math.min(Math.max((event.clientX - box.left) / box.width, 0), 1) * 100));
    };
    stage.addEventListener("pointerdown", (event) => {
      stage.setPointerCapture(event.pointerId);
      drag(event);
    });
    stage.addEventListener("pointermove", (event) => {
      if (stage.hasPointerCapture(event.pointerId)) drag(event);
      const box = stage.getBoundingClientRect();
      const parts = all(".strip img.map", card).map((image) => {
        const of = pixels(image);
        const x = Math.min(Math.floor(((event.clientX - box.left) / box.width) * of.width), of.width - 1);
        const y = Math.min(Math.floor(((event.clientY - box.top) / box.height) * of.height), of.height - 1);
        if (x < 0 || y < 0) return "";
        const at = 4 * (y * of.width + x);
        const title = image.parentElement.textContent.trim();
        return `${title}: ${names.get(of.data.slice(at, at + 3).join()) || "ignored"}`;
      });
      note.textContent = parts.join(" · ");
    });
    stage.addEventListener("pointerleave", () => {
      note.textContent = "\u00a0";
    });
  }

  const arrange = () => {
    const wanted = chosen("class-filter", "");
    const test = Number(chosen("score-of", 0));
    const order = chosen("order", "name");
    const score = (frame) => {
      if (wanted === "") return frame.mean[test];
      return frame.iou[test] ? frame.iou[test][Number(wanted)] : null;
    };
    const shown = data.frames
      .map((frame, n) => ({ frame, n, score: score(frame) ?? null }))
      .filter(({ frame }) => wanted === "" || frame.classes.includes(Number(wanted)));
    const byName = (a, b) => (a.frame.name < b.frame.name ? -1 : 1);
    shown.sort((a, b) => {
      if (order === "name") return byName(a, b);
      // Frames without a score come last, whatever the order.
      if (a.score === null || b.score === null) return (a.score === null) - (b.score === null) || byName(a, b);
      return (order === "worst" ? a.score - b.score : b.score - a.score) || byName(a, b);
    });
    for (const card of cards) card.hidden = true;
    for (const { n } of shown) {
      cards[n].hidden = false;
      list.append(cards[n]);
    }
    for (const card of cards) {
      const frame = data.frames[Number(card.dataset.frame)];
      for (const chip of all(".chips li", card)) {
        const of = Number(chip.dataset.test);
        const value = wanted === "" ? frame.mean[of] : frame.iou[of] && frame.iou[of][Number(wanted)];
        chip.querySelector("b").textContent = percent(value);
        chip.classList.toggle("active", of === test && data.tests.length > 1);
      }
    }
    const status = byId("status");
    if (!status) return;
    const what = wanted === "" ? "mean IoU" : `IoU of ${data.classes[Number(wanted)]}`;
    const by = order === "name" ? "by name" : `${order} first by the ${what} of ${data.tests[test]}`;
    const hasOrder = Boolean(byId("order"));
    status.textContent = `${shown.length} of ${cards.length} frames${hasOrder ? `, ${by}` : ""}`;
  };

  for (const id of ["class-filter", "score-of", "order"]) byId(id)?.addEventListener("change", arrange);
  byId("base")?.addEventListener("change", applyBase);
  byId("over")?.addEventListener("change", applyOver);
  byId("mode")?.addEventListener("change", applyMode);
  byId("all")?.addEventListener("input", (event) => cards.forEach((card) => slide(card, event.target.value)));
  applyMode();
  applyBase();
  applyOver();
  cards.forEach((card) => slide(card, 50));
  if (byId("order")) arrange();
})();
