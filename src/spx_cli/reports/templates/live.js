"use strict";
const all = (what, where = document) => [...where.querySelectorAll(what)];
const number = (cell) => { const value = Number.parseFloat(cell.textContent); return Number.isNaN(value) ? null : value; };

// Tables: a click on a head sorts by it, better first where there is a better; what is no number comes last.
for (const table of all("table:not(.wall)")) {
  all("thead th", table).forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const first = head.textContent.includes("↑") ? "descending" : "ascending";
      const other = first === "ascending" ? "descending" : "ascending";
      const order = head.getAttribute("aria-sort") === first ? other : first;
      all("thead th", table).forEach((one) => one.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", order);
      const rows = all("tbody tr", table);
      const texts = rows.every((row) => number(row.cells[column]) === null);
      const sign = order === "ascending" ? 1 : -1;
      rows.sort((one, two) => {
        const [a, b] = [one.cells[column], two.cells[column]];
        if (texts) return sign * a.textContent.localeCompare(b.textContent);
        const [x, y] = [number(a), number(b)];
        if (x === null || y === null) return (x === null) - (y === null);
        return sign * (x - y);
      });
      table.tBodies[0].append(...rows);
    });
  });
}

// What is shown: rows of tables, lines of charts and columns of pictures, by name; rows by the count asked for, too.
const form = document.querySelector(".controls");
function show() {
  const boxes = all('input[name="name"]', form);
  const hidden = new Set(boxes.filter((box) => !box.checked).map((box) => box.value));
  const asked = form.elements.asked ? form.elements.asked.value : "";
  all("[data-name]").forEach((one) => one.classList.toggle("off", hidden.has(one.dataset.name)));
  for (const table of all("table:not(.wall)")) {
    const column = all("thead th", table).findIndex((head) => head.textContent.trim() === "asked");
    for (const row of all("tbody tr", table)) {
      const other = asked !== "" && column >= 0 && /^\d/.test(row.cells[column].textContent)
        && row.cells[column].textContent !== asked;
      row.classList.toggle("off", hidden.has(row.cells[0].textContent) || other);
    }
  }
}
if (form) {
  form.addEventListener("change", show);
  form.addEventListener("submit", (event) => event.preventDefault());
  all("[data-every]", form).forEach((button) => button.addEventListener("click", () => {
    all('input[name="name"]', form).forEach((box) => { box.checked = button.dataset.every !== ""; });
    show();
  }));
  show(); // a browser may remember what was chosen before
}

// Pictures: one click, or Enter, opens in full size; arrows go on, Escape closes.
const full = document.querySelector("#full");
let opened = null;
function open(shot) {
  opened = shot;
  const frame = full.querySelector(".shot");
  frame.style.setProperty("--photo", shot.closest("tr").style.getPropertyValue("--photo"));
  frame.firstElementChild.src = shot.firstElementChild.src;
  frame.firstElementChild.alt = full.querySelector("b").textContent = shot.dataset.title;
  if (!full.open) full.showModal();
}
function go(columns, rows) {
  const lines = all(".wall tbody tr").map((row) => all("td:not(.off) .shot", row));
  const y = lines.findIndex((line) => line.includes(opened));
  const x = lines[y].indexOf(opened) + columns;
  const target = (lines[y + rows] || [])[Math.max(0, Math.min(x, (lines[y + rows] || []).length - 1))];
  if (target) open(target);
}
all(".wall .shot").forEach((shot) => shot.addEventListener("click", () => open(shot)));
full.addEventListener("keydown", (event) => {
  const step = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
  if (step) { event.preventDefault(); go(...step); }
});
full.addEventListener("close", () => opened.focus());
all("[data-go]", full).forEach((button) => button.addEventListener("click", () => go(Number(button.dataset.go), 0)));
full.querySelector("[data-close]").addEventListener("click", () => full.close());
full.querySelector("[data-lines]").addEventListener("click", (event) => {
  const bare = full.classList.toggle("bare");
  event.currentTarget.setAttribute("aria-pressed", String(!bare));
});
