// Tables sort by a click on a heading; sliders zoom; the side shows where one is. Without scripts nothing is missing.
for (const table of document.querySelectorAll("table")) {
  const rows = [...table.tBodies[0].rows];
  [...table.tHead.rows[0].cells].forEach((head, column) => {
    const button = document.createElement("button");
    button.append(...head.childNodes);
    button.title = "sort";
    head.append(button);
    const key = (row) => row.cells[column].textContent.trim();
    const number = (text) => parseFloat(text.replaceAll(",", ""));
    button.onclick = () => {
      const down = head.ariaSort === "descending";
      table.querySelectorAll("th").forEach((other) => other.removeAttribute("aria-sort"));
      head.ariaSort = down ? "ascending" : "descending";
      const sign = down ? 1 : -1;
      const compare = (a, b) => {
        const [x, y] = [number(key(a)), number(key(b))];
        if (isNaN(x) || isNaN(y)) return isNaN(x) && isNaN(y) ? sign * key(a).localeCompare(key(b)) : isNaN(x) - isNaN(y);
        return sign * (x - y);
      };
      table.tBodies[0].append(...rows.sort(compare));
    };
  });
}
for (const figure of document.querySelectorAll(".slider")) {
  const button = document.createElement("button");
  button.className = "zoom";
  button.textContent = "zoom";
  button.ariaPressed = "false";
  button.onclick = () => {
    button.ariaPressed = String(figure.classList.toggle("zoomed"));
  };
  figure.querySelector("figcaption").append(button);
}
const links = new Map([...document.querySelectorAll("nav a")].map((link) => [link.hash.slice(1), link]));
const seen = new IntersectionObserver((entries) => {
  for (const entry of entries) {
    if (!entry.isIntersecting) continue;
    links.forEach((link) => link.removeAttribute("aria-current"));
    links.get(entry.target.id)?.setAttribute("aria-current", "true");
  }
}, { rootMargin: "0px 0px -70% 0px" });
document.querySelectorAll("h2").forEach((heading) => seen.observe(heading));
