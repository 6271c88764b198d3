"use strict";
// Values under the pointer. All numbers and texts are on the page without this.
(() => {
  const root = document.documentElement;
  const items = JSON.parse(document.getElementById("recurra-data").textContent)
    .sections.flatMap(section => section.items);
  const SVG = "http://www.w3.org/2000/svg";
  const short = v => v === null || v === undefined ? "no number"
    : v !== 0 && (Math.abs(v) < 1e-3 || Math.abs(v) >= 1e6) ? v.toExponential(3)
    : String(Number(v.toPrecision(5)));
  const numbers = text => text.split(",").map(Number);
  const shape = (svg, d) => {
    const path = document.createElementNS(SVG, "path");
    path.setAttribute("class", "cursor");
    path.setAttribute("d", d);
    svg.appendChild(path);
    return path;
  };
  // The index of the point whose x is nearest; points go up in x.
  const nearest = (points, x) => {
    let low = 0, high = points.length - 1;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (points[middle][0] < x) low = middle + 1; else high = middle;
    }
    return low > 0 && x - points[low - 1][0] < points[low][0] - x ? low - 1 : low;
  };
  const lines = (item, svg, px, plot) => {
    const [low, high, log] = numbers(svg.dataset.x);
    const share = Math.min(1, Math.max(0, (px - plot[0]) / plot[2]));
    const x = log ? low * Math.pow(high / low, share) : low + (high - low) * share;
    const rows = [];
    let at = null;
    for (const series of item.series) {
      if (!series.points.length) continue;
      const point = series.points[nearest(series.points, x)];
      if (at === null || Math.abs(point[0] - x) < Math.abs(at - x)) at = point[0];
      rows.push((series.name || item.y_label) + "  " + short(point[1]) +
        (series.points.length < 50 ? "  at " + short(point[0]) : ""));
    }
    for (const band of item.bands ?? []) {
      const point = band.points[nearest(band.points, x)];
      if (point) rows.push(band.name + "  " + short(point[1][0]) + " to " + short(point[1][1]));
    }
    if (at === null) return null;
    const place = log ? Math.log(at / low) / Math.log(high / low) : (at - low) / (high - low);
    const cx = plot[0] + place * plot[2];
    return [[item.x_label + " " + short(at), ...rows].join("\n"), `M${cx} ${plot[1]}v${plot[3]}`];
  };
  const heat = (item, svg, px, plot, py) => {
    const column = Math.floor((px - plot[0]) / plot[2] * item.columns);
    const row = Math.floor((py - plot[1]) / plot[3] * item.rows);
    if (column < 0 || row < 0 || column >= item.columns || row >= item.rows) return null;
    const name = (names, i) => (names.label ? names.label + " " : "") + (names.names[i] ?? i);
    const index = row * item.columns + column;
    const text = item.texts[index] ? item.texts[index] + "  (" + short(item.values[index]) + ")"
      : short(item.values[index]);
    const w = plot[2] / item.columns, h = plot[3] / item.rows;
    return [name(item.row_names, row) + "\n" + name(item.column_names, column) + "\n" + text,
      `M${plot[0] + column * w} ${plot[1] + row * h}h${w}v${h}h${-w}z`];
  };
  for (const svg of document.querySelectorAll("svg[data-item]")) {
    const item = items[Number(svg.dataset.item)], plot = numbers(svg.dataset.plot);
    const what = item.kind === "lines" ? lines : heat, figure = svg.closest("figure");
    let tip = null, cursor = null;
    const leave = () => { tip?.remove(); cursor?.remove(); tip = cursor = null; };
    const move = event => {
      const box = svg.getBoundingClientRect(), view = svg.viewBox.baseVal;
      const scale = view.width / box.width;
      const px = (event.clientX - box.left) * scale, py = (event.clientY - box.top) * scale;
      const inside = px >= plot[0] - 4 && px <= plot[0] + plot[2] + 4 && py >= plot[1] && py <= plot[1] + plot[3];
      const found = inside ? what(item, svg, px, plot, py) : null;
      leave();
      if (!found) return;
      cursor = shape(svg, found[1]);
      tip = document.createElement("div");
      tip.className = "tip";
      tip.textContent = found[0];
      figure.appendChild(tip);
      const frame = figure.getBoundingClientRect(), x = event.clientX - frame.left;
      const side = x + 14 + tip.offsetWidth > frame.width ? x - 14 - tip.offsetWidth : x + 14;
      tip.style.left = Math.max(0, side) + "px";
      tip.style.top = event.clientY - frame.top + 14 + "px";
    };
    svg.addEventListener("pointermove", move);
    svg.addEventListener("pointerdown", move);
    svg.addEventListener("pointerleave", leave);
  }
  root.dataset.ready = "yes";
})();
