// Shows what the server tells: whole pictures, always the newest.

const find = (selector, within = document) => within.querySelector(selector);
const make = template => find(template).content.firstElementChild.cloneNode(true);
const words = { ready: "Ready", starting: "Starting…", down: "Down" };
const isStill = matchMedia("(prefers-reduced-motion: reduce)");

const cards = new Map();
const chips = new Map();
let told = 0;

/// Writes only what is different: screen readers and the browser have nothing to do otherwise.
function write(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

function trouble(text) {
  write(find("#trouble"), text);
}

async function post(path) {
  try {
    const answer = await fetch(path, { method: "POST" });
    trouble(answer.ok ? "" : `That did not work: ${await answer.text()}`);
  } catch {
    trouble("The program that serves this page does not answer.");
  }
}

find("#shopper").addEventListener("click", () => post("shoppers"));

function cardOf(name) {
  let card = cards.get(name);
  if (!card) {
    card = make("#node");
    card.dataset.node = name;
    card.setAttribute("aria-label", `Node ${name}`);
    write(find("h2", card), name);
    find(".power", card).addEventListener("click", event => {
      const button = event.currentTarget;
      if (button.getAttribute("aria-disabled") !== "true") post(`nodes/${name}/${button.dataset.does}`);
    });
    cards.set(name, card);
    find("#nodes").append(card);
  }
  return card;
}

function chipOf(id) {
  let chip = chips.get(id);
  if (!chip) {
    chip = make("#chip");
    chip.dataset.session = id;
    chip.addEventListener("animationend", () => chip.classList.remove("used"));
    chips.set(id, chip);
    const face = find(".face", chip);
    const hue = [...id].reduce((sum, letter) => (sum * 31 + letter.codePointAt(0)) % 360, 7);
    face.style.background = `hsl(${hue} 55% 38%)`;
    write(find("code", chip), id);
  }
  return chip;
}

function showNode(node) {
  const card = cardOf(node.name);
  card.dataset.status = node.status;
  write(find(".word", card), words[node.status]);
  const sees = node.sees.length ? `Sees ${node.sees.join(" and ")}` : "Sees nobody";
  write(find(".sees", card), node.status === "ready" ? sees : node.status === "down" ? "Its process is gone" : "Gets what the others have");
  const button = find(".power", card);
  const does = node.status === "down" ? "start" : "kill";
  // Not `disabled`: whoever uses the keyboard would lose the place.
  button.setAttribute("aria-disabled", String(node.status === "starting"));
  button.dataset.does = does;
  write(button, `${does === "kill" ? "Kill" : "Start"} ${node.name}`);
}

function showChip(session) {
  const chip = chipOf(session.id);
  write(find(".face", chip), (session.user ?? "?").slice(0, 1));
  write(find(".user", chip), session.user ?? "Nobody");
  write(find(".cart", chip), `${session.cart} in cart`);
  write(find(".held", chip), `on ${session.held.join(", ")}`);
  const used = performance.now() - (session.idle_ms ?? 0);
  if (used > Number(chip.dataset.used ?? -Infinity) + 300) {
    chip.dataset.used = used;
    chip.classList.add("used");
  }
  showAge(chip);
  chip.dataset.cart = session.cart;
  return chip;
}

/// Where a chip is in the page's order, wherever it is seen while it travels.
const place = chip => `${chip.offsetLeft} ${chip.offsetTop}`;

/// Lets a chip go from where it was seen to where it is.
function travel(chip, before) {
  if (isStill.matches || place(chip) === before.place) return;
  chip.trip?.cancel();
  const after = chip.getBoundingClientRect();
  const [x, y] = [before.rect.left - after.left, before.rect.top - after.top];
  const frames = [{ transform: `translate(${x}px, ${y}px)`, zIndex: 1 }, { transform: "none", zIndex: 1 }];
  chip.trip = chip.animate(frames, { duration: Math.hypot(x, y) > 100 ? 900 : 250, easing: "cubic-bezier(.3, .8, .3, 1)" });
}

function showAge(chip) {
  const seconds = Math.floor((performance.now() - Number(chip.dataset.used)) / 1000);
  write(find(".age", chip), seconds < 1 ? "used now" : `used ${seconds} s ago`);
}

function show(picture) {
  const before = new Map([...chips].map(([id, chip]) => [id, { place: place(chip), rect: chip.getBoundingClientRect() }]));
  picture.nodes.forEach(showNode);
  const gone = new Set(chips.keys());
  const owned = new Map(picture.nodes.map(node => [node.name, 0]));
  for (const session of picture.sessions) {
    gone.delete(session.id);
    const chip = showChip(session);
    // A session whose last node has no name here is shown where it is held.
    const at = cards.has(session.at) ? session.at : session.held[0];
    owned.set(at, owned.get(at) + 1);
    const list = find(".chips", cards.get(at));
    if (chip.parentElement !== list) {
      if (chip.parentElement) {
        chip.classList.add("moved");
        setTimeout(() => chip.classList.remove("moved"), 2500);
      }
      list.append(chip);
    }
  }
  for (const id of gone) {
    chips.get(id).remove();
    chips.delete(id);
  }
  for (const node of picture.nodes) {
    const card = cards.get(node.name);
    const none = owned.get(node.name) ? "" : node.status === "ready" ? "Serves nobody" : "";
    write(find(".none", card), none);
    const copies = picture.sessions.filter(session => session.at !== node.name && session.held.includes(node.name)).length;
    const kept = copies === 1 ? "Keeps a copy of 1 other session" : `Keeps copies of ${copies} other sessions`;
    write(find(".copies", card), node.status === "down" ? "Keeps nothing" : kept);
  }
  for (const [id, was] of before) {
    const chip = chips.get(id);
    if (chip) travel(chip, was);
  }
  const count = picture.sessions.length;
  write(find("#count"), count === 0 ? "No shoppers yet" : count === 1 ? "1 shopper" : `${count} shoppers`);
  showLines(picture.lines);
}

function showLines(lines) {
  const [list, log] = [find("#lines"), find("#log")];
  // Whoever reads further up is not disturbed.
  const isAtEnd = log.scrollTop + log.clientHeight >= log.scrollHeight - 8;
  for (const line of lines.filter(line => line.number > told)) {
    const item = document.createElement("li");
    item.dataset.kind = line.kind;
    item.textContent = line.text;
    list.append(item);
    told = line.number;
  }
  while (list.children.length > 100) list.firstElementChild.remove();
  if (isAtEnd) log.scrollTop = log.scrollHeight;
}

setInterval(() => chips.forEach(showAge), 1000);

const events = new EventSource("events");
const lost = "The program that serves this page does not answer. This page tries again.";
events.addEventListener("message", event => show(JSON.parse(event.data)));
events.addEventListener("error", () => trouble(lost));
events.addEventListener("open", () => { if (find("#trouble").textContent === lost) trouble(""); });
