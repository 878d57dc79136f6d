// A chart in its frame: drawn when it comes in sight, drawn again when its width changes, with buttons to save it.
//
//   addFigure("errors", { height(width), draw(width), label(), rows(), said(), controls: [{ label, pressed(), press() }], table })
//
// `draw` gives an SVG element, or null if there is nothing to draw; then the text of `none` stands there.

const figures = new Map();
const watched = new IntersectionObserver((seen) => {
  for (const entry of seen) if (entry.isIntersecting) figures.get(entry.target.dataset.chart)?.ensure();
}, { rootMargin: "300px" });
const sized = new ResizeObserver((seen) => {
  for (const entry of seen) figures.get(entry.target.parentElement.dataset.chart)?.resized();
});

function addFigure(name, spec) {
  const frame = $(`chart-${name}`);
  if (!frame) return null;
  const place = frame.querySelector(".plot");
  const said = element("p", { class: "plot-said" });
  const title = frame.querySelector(".chart-title").textContent;
  const state = { drawn: 0, dirty: true };
  frame.append(said);
  frame.querySelector("figcaption").append(tools(name, spec, place, () => figure.again()));
  const numbers = spec.table ? numbersOf(frame, spec, title) : null;

  // numbers that no axis can show must not keep other pictures from being drawn
  function attempt(width) {
    state.broken = null;
    try {
      return spec.draw(width);
    } catch (error) {
      state.broken = `This cannot be drawn (${error.message}); the tables have the numbers.`;
      return null;
    }
  }

  function draw() {
    const width = Math.max(260, Math.floor(place.clientWidth));
    const made = attempt(width);
    state.drawn = width;
    state.dirty = false;
    place.replaceChildren(made ?? element("p", { class: "empty" }, state.broken ?? spec.none ?? "Nothing to draw."));
    place.style.minHeight = "";
    if (made) {
      if (!made.getAttribute("role")) made.setAttribute("role", "img");
      made.setAttribute("aria-label", `${title}. ${spec.label()}`);
    }
    frame.querySelector(".tools").hidden = !made;
    said.textContent = (made && spec.said?.()) || "";
    said.hidden = !said.textContent;
    if (numbers) numbers.hidden = !made;
  }

  const figure = {
    ensure: () => (state.dirty ? draw() : null),
    again() {
      state.dirty = true;
      numbers?.refresh();
      if (near(frame)) draw();
      else reserve();
    },
    resized() {
      if (state.drawn && Math.abs(place.clientWidth - state.drawn) > 8) {
        clearTimeout(state.later);
        state.later = setTimeout(() => place.clientWidth && figure.again(), 120);
      }
    },
  };
  const reserve = () => (place.style.minHeight = `${spec.height(Math.max(260, place.clientWidth))}px`);
  figures.set(name, figure);
  reserve();
  watched.observe(frame);
  sized.observe(place);
  return figure;
}

function near(frame) {
  const box = frame.getBoundingClientRect();
  return box.width > 0 && box.bottom > -300 && box.top < innerHeight + 300;
}

function tools(name, spec, place, again) {
  const buttons = (spec.controls ?? []).map((control) => {
    const button = element("button", { type: "button", "aria-pressed": String(control.pressed()) }, control.label);
    button.addEventListener("click", () => {
      control.press();
      button.setAttribute("aria-pressed", String(control.pressed()));
      again();
    });
    return button;
  });
  const file = (suffix) => `${stem()}-${name}.${suffix}`;
  const save = (label, what, act) => element("button", { type: "button", "aria-label": `Save ${what}`, title: `Save ${what}`, click: act }, label);
  return element("p", { class: "tools" }, ...buttons,
    save("CSV", "the data of this picture as CSV", () => download(file("csv"), "text/csv", csv(spec.rows()))),
    save("JSON", "the data of this picture as JSON", () => download(file("json"), "application/json", json(spec.rows()))),
    save("SVG", "this picture as SVG", () => download(file("svg"), "image/svg+xml", picture(place.querySelector("svg")))),
  );
}

// The numbers of a chart as a table, made when it is opened.
function numbersOf(frame, spec, title) {
  const box = element("details", {}, element("summary", {}, "The numbers as a table"));
  frame.append(box);
  const fill = () => {
    const rows = spec.rows();
    const heads = Object.keys(rows[0] ?? {});
    const table = element("table", { class: "grid" }, element("caption", {}, title),
      element("thead", {}, element("tr", {}, ...heads.map((h) => element("th", { scope: "col", class: "plain" }, h)))),
      element("tbody", {}, ...rows.map((row) => element("tr", {}, ...heads.map((h) => element("td", {}, finite(row[h]) && !Number.isInteger(row[h]) ? figureOf(row[h]) : String(row[h] ?? NONE)))))));
    box.querySelector(".scroll")?.remove();
    box.append(element("div", { class: "scroll tall", tabindex: "0", role: "region", "aria-label": `${title}, numbers` }, table));
  };
  box.addEventListener("toggle", () => box.open && fill());
  box.refresh = () => box.open && fill();
  return box;
}
