// Search: names and operators that hold all words; arrows choose, Enter goes there.
const field = document.getElementById("search"), list = document.getElementById("found");
const MOST = 40;
let hits = [], at = -1;

function look() {
  const words = field.value.toLowerCase().split(/\s+/).filter(Boolean);
  hits = [];
  if (words.length)
    for (const stage of shownStages())
      for (const [id, box] of Object.entries(stage.boxes)) {
        const text = `${box.name} ${box.op} ${box.verdict} ${box.kind}`.toLowerCase();
        if (words.every((w) => text.includes(w))) hits.push([stage, id, box]);
      }
  const rows = hits.slice(0, MOST).map(([stage, id, box], i) => {
    const row = element("li", { id: `hit${i}`, role: "option" }, element("b", { textContent: box.op }), ` ${box.name} `);
    row.append(element("span", { textContent: `${stage.title}${box.verdict ? `, ${box.verdict}` : ""}` }));
    row.addEventListener("pointerdown", (e) => { e.preventDefault(); take(i); });
    return row;
  });
  if (hits.length > MOST) rows.push(element("li", { className: "rest", role: "option", ariaDisabled: "true", textContent: `and ${hits.length - MOST} more` }));
  if (words.length && !hits.length) rows.push(element("li", { className: "rest", role: "option", ariaDisabled: "true", textContent: "nothing found" }));
  list.replaceChildren(...rows);
  choose(hits.length ? 0 : -1);
  list.hidden = !rows.length;
  field.setAttribute("aria-expanded", String(!list.hidden));
}

function choose(i) {
  at = i;
  [...list.children].forEach((row, k) => row.setAttribute("aria-selected", String(k === i)));
  if (i >= 0) {
    field.setAttribute("aria-activedescendant", `hit${i}`);
    list.children[i].scrollIntoView({ block: "nearest" });
  } else field.removeAttribute("aria-activedescendant");
}

function take(i) {
  if (!hits[i]) return;
  list.hidden = true;
  field.setAttribute("aria-expanded", "false");
  goTo(hits[i][0], hits[i][1]);
}

field.addEventListener("input", look);
field.addEventListener("focus", () => { if (field.value) look(); });
field.addEventListener("blur", () => { list.hidden = true; field.setAttribute("aria-expanded", "false"); });
field.addEventListener("keydown", (e) => {
  const count = Math.min(hits.length, MOST);
  if (e.key === "ArrowDown" && count) choose((at + 1) % count);
  else if (e.key === "ArrowUp" && count) choose((at + count - 1) % count);
  else if (e.key === "Enter") take(at);
  else if (e.key === "Escape") field.value = "", look();
  else return;
  e.preventDefault();
});
