// The weights of the chosen layer, channel by channel: how far they reach, what the integers can hold, what is lost.
// Of more channels than there are places, neighbours share one: the widest range, the lowest SQNR.

let bySize = false;

function channels() {
  const w = chosen?.weights;
  const at = (key, i) => num(w[key]?.[w[key].length === 1 ? 0 : i]);
  const found = (w?.low ?? []).map((_, i) => ({
    channel: i * (w.together || 1), low: at("low", i), high: at("high", i), limit_low: at("limit_low", i), limit_high: at("limit_high", i), sqnr: at("sqnr", i),
  }));
  return bySize ? found.sort((a, b) => b.high - b.low - (a.high - a.low)) : found;
}

// half a step of eight bits: as far as rounding reaches
const slack = (r) => (r.limit_high - r.limit_low) / 500;

function shared(rows, places) {
  const each = Math.ceil(rows.length / places);
  const least = (part, key) => d3.min(part, (r) => r[key]), most = (part, key) => d3.max(part, (r) => r[key]);
  const found = d3.range(0, rows.length, each).map((start) => {
    const part = rows.slice(start, start + each);
    return {
      from: start, to: start + part.length, first: part[0].channel, last: part.at(-1).channel,
      low: least(part, "low"), high: most(part, "high"), limit_low: least(part, "limit_low"), limit_high: most(part, "limit_high"),
      cut_low: least(part.filter((r) => r.low < r.limit_low - slack(r)), "low"), cut_high: most(part.filter((r) => r.high > r.limit_high + slack(r)), "high"),
      sqnr_low: d3.min(part.map((r) => r.sqnr).filter(finite)), sqnr_high: d3.max(part.map((r) => r.sqnr).filter(finite)),
    };
  });
  return { each, found };
}

// one outline of steps: each place is as wide as its channels
const stepped = (rows, low, high) => rows.flatMap((r) => [{ x: r.from, low: r[low], high: r[high] }, { x: r.to, low: r[low], high: r[high] }]);
const placesFor = (width) => Math.max(60, Math.floor((width - 80) / 2));
const what = () => ({ group: "group of weights", tensor: "channel", channel: "channel" })[chosen?.weights?.granularity] ?? "channel";
const order = () => (bySize ? `${what()}s, the widest first` : `${what()} →`);
const sortControl = { label: "Widest first", pressed: () => bySize, press: () => ((bySize = !bySize), weightFigures.forEach((f) => f?.again())) };

function tipOf(r) {
  const where = bySize || r.first === r.last ? `${what()} ${r.first}${r.to - r.from > 1 ? ` and ${r.to - r.from - 1} like it` : ""}` : `${what()}s ${r.first} to ${r.last}`;
  return `${where}\nweights ${figureOf(r.low)} to ${figureOf(r.high)}\nintegers hold ${figureOf(r.limit_low)} to ${figureOf(r.limit_high)}\nSQNR ${fixed(r.sqnr_low ?? null, 1)} dB`;
}

const weightFigures = [
  addFigure("weights", {
    height: () => 310,
    none: "This layer has no weights that were quantized.",
    draw(width) {
      const rows = channels();
      if (!rows.length) return null;
      const { found } = shared(rows, placesFor(width));
      const cut = hatch("var(--bad)", 45, 6);
      const cutHigh = found.filter((r) => r.cut_high !== undefined), cutLow = found.filter((r) => r.cut_low !== undefined);
      const key = [{ label: "weights, smallest to largest", fill: "var(--float)", opacity: 0.75 }, { label: "what the integers hold", fill: "var(--int)", opacity: 0.2, stroke: "var(--int)" }];
      if (cutHigh.length || cutLow.length) key.push({ label: "clipped", fill: cut.fill });
      return plot({
        width, height: 310, key, marginLeft: 58, marginBottom: 40,
        x: { label: order(), domain: [0, rows.length], ticks: Math.min(rows.length, Math.max(3, width / 110)), tickFormat: (i) => (Number.isInteger(i) ? fixed(bySize ? i : i * (chosen.weights.together || 1), 0) : "") },
        y: { label: "↑ weight", nice: true },
        marks: [
          cut.mark, gridY(),
          Plot.areaY(stepped(found, "limit_low", "limit_high"), { x: "x", y1: "low", y2: "high", fill: "var(--int)", fillOpacity: 0.2 }),
          Plot.areaY(stepped(found, "low", "high"), { x: "x", y1: "low", y2: "high", fill: "var(--float)", fillOpacity: 0.75 }),
          Plot.lineY(stepped(found, "limit_low", "limit_high"), { x: "x", y: "high", stroke: "var(--int)", strokeWidth: 1.2 }),
          Plot.lineY(stepped(found, "limit_low", "limit_high"), { x: "x", y: "low", stroke: "var(--int)", strokeWidth: 1.2 }),
          Plot.rect(cutHigh, { x1: "from", x2: "to", y1: "limit_high", y2: "cut_high", fill: cut.fill }),
          Plot.rect(cutLow, { x1: "from", x2: "to", y1: "cut_low", y2: "limit_low", fill: cut.fill }),
          Plot.ruleY([0], { stroke: "currentColor" }),
          Plot.tip(found, Plot.pointerX({ x: (r) => (r.from + r.to) / 2, y: "high", title: tipOf })),
        ],
      });
    },
    label: () => `Smallest and largest weight of each ${what()} of ${short(chosen.weights.name || nameOf(chosen), 80)}, against what the integers can hold. The table below the picture has the numbers.`,
    said() {
      const w = chosen.weights, rows = channels();
      const use = rows.map((r) => ({ ...r, use: Math.max(Math.abs(r.low / (r.limit_low || NaN)) || 0, Math.abs(r.high / (r.limit_high || NaN)) || 0) })).sort((a, b) => a.use - b.use);
      const { each } = shared(rows, placesFor($("chart-weights").clientWidth));
      const scales = { tensor: "one scale for all", channel: "one scale a channel", group: "one scale a group" }[w.granularity] ?? "";
      return [
        `${w.name || "weights"}: ${w.format ?? NONE}, ${scales}; zeros ${percent(w.sparsity, 2)}, clipped ${percent(w.clip, 3)}.`,
        `Least used are the integers of ${what()} ${use[0].channel}: ${percent(Math.min(1, use[0].use), 0)} of what they hold.`,
        each > 1 ? `${rows.length} ${what()}s: each place of the picture shares ${each} of them, with the widest range.` : "",
      ].filter(Boolean).join(" ");
    },
    rows: channels, table: true, controls: [sortControl],
  }),
  addFigure("weight-sqnr", {
    height: () => 240,
    none: "Not told for this layer.",
    draw(width) {
      const rows = channels();
      const real = rows.filter((r) => finite(r.sqnr));
      if (!real.length) return null;
      const { each, found } = shared(rows, placesFor(width));
      const told = found.filter((r) => r.sqnr_low !== undefined);
      const low = d3.min(told, (r) => r.sqnr_low), high = d3.max(told, (r) => r.sqnr_high), middle = d3.median(real, (r) => r.sqnr);
      const key = each > 1 ? [{ label: "lowest to highest of neighbours", fill: "var(--int)", opacity: 0.35 }, { label: "lowest", stroke: "var(--int)", symbol: d3.symbolCircle, lineless: true }] : [];
      key.push({ label: `median ${fixed(middle, 1)} dB`, stroke: "currentColor", dash: "5 3" });
      return plot({
        width, height: 240, key, marginLeft: 58, marginBottom: 40,
        x: { label: order(), domain: [0, rows.length], ticks: Math.min(rows.length, Math.max(3, width / 110)), tickFormat: (i) => (Number.isInteger(i) ? fixed(bySize ? i : i * (chosen.weights.together || 1), 0) : "") },
        y: { label: "↑ SQNR, dB", domain: [Math.min(low - 1, middle - 6), Math.max(high + 1, middle + 6)], nice: true },
        marks: [
          gridY(),
          each > 1 ? Plot.rect(told, { x1: "from", x2: "to", y1: "sqnr_low", y2: "sqnr_high", fill: "var(--int)", fillOpacity: 0.35 }) : null,
          Plot.dot(told, { x: (r) => (r.from + r.to) / 2, y: "sqnr_low", r: told.length > 300 ? 1.4 : told.length > 120 ? 2 : 3, fill: "var(--int)" }),
          Plot.ruleY([middle], { stroke: "currentColor", strokeDasharray: "5 3" }),
          Plot.tip(told, Plot.pointerX({ x: (r) => (r.from + r.to) / 2, y: "sqnr_low", title: tipOf })),
        ],
      });
    },
    label: () => `SQNR in decibels of the weights of each ${what()}. The table of the picture above has the numbers.`,
    rows: () => channels().map(({ channel, sqnr }) => ({ channel, sqnr })),
  }),
];
