// The values of the chosen layer: float as bars, what the quantized network has as a line, the range, what it cuts off.

let linearCounts = false;
const LEAST = 0.7; // on a logarithmic scale, where a bin without values lies

const bins = (h) => (h?.float ?? []).map((count, i) => ({ low: num(h.low) + i * num(h.step), high: num(h.low) + (i + 1) * num(h.step), float: count, quantized: h.quantized?.[i] ?? null }));

const histogramFigure = addFigure("histogram", {
  height: () => 330,
  get none() {
    return chosen?.format ? "The values of this layer were not counted." : "These values were not counted: they stay float, or are not seen in both networks.";
  },
  draw(width) {
    const rows = bins(chosen?.histogram);
    if (!rows.length) return null;
    const least = linearCounts ? 0 : LEAST;
    const range = (chosen.range ?? []).map(num);
    const [low, high] = [rows[0].low, rows.at(-1).high];
    const near = range.map((x) => finite(x) && x > low - 2 * (high - low) && x < high + 2 * (high - low));
    const xs = d3.extent([low, high, ...range.filter((_, i) => near[i])]);
    const top = d3.max(rows, (r) => Math.max(r.float, r.quantized ?? 0)) || 1;
    const cut = hatch("var(--bad)", 45, 7);
    const outside = [near[0] && range[0] > xs[0] ? [xs[0], range[0]] : null, near[1] && range[1] < xs[1] ? [range[1], xs[1]] : null].filter(Boolean);
    const steps = [{ x: low, y: least }, ...rows.flatMap((r) => [{ x: r.low, y: Math.max(least, r.quantized ?? 0) }, { x: r.high, y: Math.max(least, r.quantized ?? 0) }]), { x: high, y: least }];
    const both = rows.some((r) => r.quantized !== null);
    const key = [{ label: "float", fill: "var(--float)", opacity: 0.5 }];
    if (both) key.push({ label: "quantized", stroke: "var(--int)" });
    if (near.some(Boolean)) key.push({ label: "range of the integers", stroke: "currentColor", dash: "5 3" });
    if (outside.length) key.push({ label: "outside of it: clipped", fill: cut.fill, stroke: "none" });
    return plot({
      width, height: 330, key, marginLeft: 62, marginBottom: 40, marginTop: 22,
      x: { label: "value →", domain: xs, nice: false },
      y: { label: linearCounts ? "↑ values in a bin" : "↑ values in a bin, logarithmic", type: linearCounts ? "linear" : "log", domain: [least, top * (linearCounts ? 1.05 : 1.6)], tickFormat: "~s", ticks: linearCounts ? 5 : Math.min(6, Math.ceil(Math.log10(top + 1))) },
      marks: [
        cut.mark, gridY(),
        Plot.rect(outside, { x1: "0", x2: "1", y1: least, y2: top * (linearCounts ? 1.05 : 1.6), fill: cut.fill, fillOpacity: 0.55 }),
        Plot.rect(rows.filter((r) => r.float > 0), { x1: "low", x2: "high", y1: least, y2: "float", fill: "var(--float)", fillOpacity: 0.5, inset: 0 }),
        both ? Plot.line(steps, { x: "x", y: "y", stroke: "var(--int)", strokeWidth: 1.5 }) : null,
        Plot.ruleX(range.filter((_, i) => near[i]), { stroke: "currentColor", strokeDasharray: "5 3", strokeWidth: 1.5 }),
        Plot.text(range.filter((_, i) => near[i]), { x: (x) => x, frameAnchor: "top", dy: -14, text: (x) => figureOf(x), fill: "currentColor", textAnchor: (x) => (x < xs[0] + (xs[1] - xs[0]) * 0.08 ? "start" : x > xs[1] - (xs[1] - xs[0]) * 0.08 ? "end" : "middle") }),
        Plot.ruleY([least], { stroke: "currentColor" }),
        Plot.tip(rows, Plot.pointerX({ x: (r) => (r.low + r.high) / 2, y: (r) => Math.max(least, r.float), title: (r) => `${figureOf(r.low)} to ${figureOf(r.high)}\nfloat ${fixed(r.float, 0)}\nquantized ${fixed(r.quantized, 0)}` })),
      ],
    });
  },
  label() {
    const range = chosen.range ? `The integers stand for ${figureOf(chosen.range[0])} to ${figureOf(chosen.range[1])}; ${percent(chosen.clip, 3)} of the values lie outside. ` : "";
    return `Counts of the values of ${short(nameOf(chosen), 80)} in float and quantized. ${range}The table below the picture has the counts.`;
  },
  said() {
    const h = chosen.histogram, found = [];
    if (num(chosen.scale) !== null) found.push(`One step of the integers is ${figureOf(chosen.scale)}.`);
    const strays = [["below", h.below], ["above", h.above]].filter(([, n]) => n && (n[0] || n[1]));
    for (const [side, [a, b]] of strays) found.push(`${side[0].toUpperCase()}${side.slice(1)} the picture lie ${fixed(a, 0)} float and ${fixed(b, 0)} quantized values.`);
    const hidden = (chosen.range ?? []).map(num).filter((x) => finite(x) && (x < num(h.low) - 2 * h.step * h.float.length || x > num(h.low) + 3 * h.step * h.float.length));
    if (hidden.length) found.push(`The range reaches far beyond the values: ${hidden.map(figureOf).join(", ")}.`);
    return found.join(" ");
  },
  rows: () => bins(chosen?.histogram),
  table: true,
  controls: [{ label: "Linear", pressed: () => linearCounts, press: () => (linearCounts = !linearCounts) }],
});
