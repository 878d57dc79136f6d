// What the page knows: the stages as they came, which groups are open, what is selected.
const data = JSON.parse(document.getElementById("drawing").textContent);
const stages = new Map(data.stages.map((s) => [s.name, prepared(s)]));
const byKey = new Map(); // key → [stage name, id], boxes and groups of all stages

for (const s of stages.values())
  for (const part of [s.boxes, s.groups])
    for (const [id, x] of Object.entries(part)) {
      if (!byKey.has(x.key)) byKey.set(x.key, []);
      byKey.get(x.key).push([s.name, id]);
    }

function prepared(stage) {
  const parent = new Map(stage.items.map(([id, group]) => [id, group]));
  return { ...stage, parent, opened: new Set(stage.open), visible: data.shown.includes(stage.name), zoom: 0 };
}

const shownStages = () => [...stages.values()].filter((s) => s.visible);
const thing = (stage, id) => stage.boxes[id] ?? stage.groups[id];

// A group opens and closes in all stages at once, so that they stay side by side.
function setOpen(key, wanted) {
  for (const [name, id] of byKey.get(key) ?? []) {
    const stage = stages.get(name);
    if (!stage.groups[id]) continue;
    if (wanted) stage.opened.add(id);
    else stage.opened.delete(id);
  }
}

// Open what is around a box.
function reveal(stage, id) {
  let changed = false;
  for (let at = stage.parent.get(id); at; at = stage.parent.get(at))
    if (!stage.opened.has(at)) {
      setOpen(stage.groups[at].key, true);
      changed = true;
    }
  return changed;
}

function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name in made && name !== "list") made[name] = value;
    else made.setAttribute(name, value);
  }
  made.append(...children);
  return made;
}
