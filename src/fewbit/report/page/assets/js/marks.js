// What charts are drawn with, beside what Observable Plot has: hatches, keys, and one look for all.

function shape(tag, attributes = {}, ...children) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

let hatched = 0;

// A fill that is told from a solid one without its colour: { fill, mark }; the mark must be among those of the chart.
function hatch(colour, angle = 45, gap = 5) {
  const id = `hatch-${++hatched}`;
  const mark = () =>
    shape("defs", {}, shape("pattern", { id, width: gap, height: gap, patternUnits: "userSpaceOnUse", patternTransform: `rotate(${angle})` },
      shape("rect", { width: gap, height: gap, fill: colour, "fill-opacity": 0.14 }),
      shape("rect", { width: gap * 0.38, height: gap, fill: colour }),
    ));
  return { fill: `url(#${id})`, mark };
}

const LETTER = 6.5;
const KEY_LINE = 18;

function keyPlaces(items, width) {
  let x = 0, line = 0;
  return items.map((item) => {
    const wide = 34 + item.label.length * LETTER;
    if (x && x + wide > width) (x = 0), line++;
    const place = { ...item, x, line };
    x += wide;
    return place;
  });
}

const keyHeight = (items, width) => 10 + KEY_LINE * (1 + Math.max(0, ...keyPlaces(items, width).map((p) => p.line)));

// A mark that is drawn once, not in every panel of a picture.
function once(draw) {
  let done = false;
  return () => (done ? null : ((done = true), draw()));
}

// What colours and lines mean, inside of the picture: items are { label, fill } or { label, stroke, dash, symbol }.
function keyMark(items, left, width) {
  return once(() =>
    shape("g", { transform: `translate(${left},4)` }, ...keyPlaces(items, width).map((p) => {
      const at = { transform: `translate(${p.x},${p.line * KEY_LINE})` };
      const text = shape("text", { x: 22, y: 10, fill: "currentColor", "text-anchor": "start" });
      text.textContent = p.label;
      const swatch = p.fill
        ? [shape("rect", { y: 1, width: 16, height: 10, fill: p.fill, "fill-opacity": p.opacity ?? 1, stroke: p.stroke ?? "none" })]
        : [shape("line", { y1: 6, y2: 6, x2: 16, stroke: p.stroke, "stroke-width": 2, "stroke-dasharray": p.dash ?? "none" })];
      if (p.symbol) {
        if (p.lineless) swatch.pop();
        swatch.push(shape("path", { d: d3.symbol(p.symbol, 38)(), transform: "translate(8,6)", fill: p.hollow ? "var(--page)" : p.stroke, stroke: p.stroke, "stroke-width": 1.5 }));
      }
      return shape("g", at, ...swatch, text);
    })));
}

// The title of the y axis, below the key: Plot itself would write it over the key.
function titleMark(label, top) {
  return once(() => {
    const text = shape("text", { x: 6, y: top + 12, fill: "currentColor", "text-anchor": "start" });
    text.textContent = label;
    return text;
  });
}

const LABEL_LINE = 18;
const STYLE = { fontSize: "12px", fontFamily: "inherit", background: "transparent" };

// One look: sizes, grid lines, a key on top, the title of the y axis below it.
function plot({ width, key = [], marks, marginTop = 8, marginLeft = 48, marginRight = 16, y = {}, ...options }) {
  const room = width - marginLeft - marginRight;
  const top = key.length ? keyHeight(key, room) : 0;
  const svg = Plot.plot({
    width, marginLeft, marginRight, style: STYLE, ...options,
    y: { ...y, label: null },
    marginTop: marginTop + top + (y.label ? LABEL_LINE : 0),
    marks: [...marks, y.label ? titleMark(y.label, top) : null, key.length ? keyMark(key, marginLeft, room) : null],
  });
  // the picture has a label of its own; Plot names each group of marks, which such groups may not have
  for (const group of svg.querySelectorAll("g[aria-label]")) group.removeAttribute("aria-label");
  return svg;
}

const gridX = (options = {}) => Plot.gridX({ stroke: "var(--grid)", strokeOpacity: 1, ...options });
const gridY = (options = {}) => Plot.gridY({ stroke: "var(--grid)", strokeOpacity: 1, ...options });

// Names beside bars: how much room they get, and how many letters fit.
function nameRoom(width, names) {
  const longest = Math.max(4, ...names.map((n) => n.length));
  const room = Math.min(longest * LETTER + 16, width * (width < 560 ? 0.42 : 0.36));
  return { marginLeft: Math.round(room), letters: Math.max(6, Math.floor((room - 12) / LETTER)) };
}
