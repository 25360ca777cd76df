// What all pages share: the connection to the viewer, the line that says whether they are live, and
// parts of a page.

const $ = (id) => document.getElementById(id);
let heard = 0, quiet = 0; // when the viewer last told something, and for how long it knew nothing new

// Give each message to `learn`; call `forget` before all is told again.
function connect(learn, forget, life) {
  const source = new EventSource("events");
  let first = false; // only a connection that was lost tells all again
  source.onmessage = (event) => {
    if (first) forget();
    first = false;
    heard = performance.now();
    const message = JSON.parse(event.data);
    quiet = message.status.quiet_s;
    learn(message);
  };
  source.onerror = () => { first = true; heard = 0; life(); };
  setInterval(life, 500);
}

// Return whether something new came within a time, as the text and the kind of the line on top.
function pulse(limit, nothing, why) {
  const now = quiet + (performance.now() - heard) / 1000;
  return now < limit ? ["Live", "live"] : [`${nothing} for ${duration(now)}: ${why}`, "lost"];
}

// Show whether the page is live, and what is wrong with what it shows.
function tell(status, text, kind, damage) {
  const lost = status && (!heard || performance.now() - heard > 4000);
  $("life").textContent = lost ? "No connection to the viewer: this page is old" : text;
  $("life").className = "life " + (lost ? "lost" : kind);
  const problem = (status && status.problem) || damage || "";
  $("problem").hidden = !problem;
  $("problem").textContent = problem;
}

function duration(seconds) {
  if (seconds < 60) return seconds.toFixed(0) + " s";
  if (seconds < 7200) return (seconds / 60).toFixed(0) + " min";
  return seconds < 172800 ? (seconds / 3600).toFixed(0) + " h" : (seconds / 86400).toFixed(0) + " days";
}

function element(kind, style, text) {
  const made = document.createElement(kind);
  if (style) made.className = style;
  if (text !== undefined) made.textContent = text;
  return made;
}

function figure(title, over = "over time") {
  const made = element("figure", "chart");
  const canvas = element("canvas");
  canvas.height = 110;
  canvas.setAttribute("role", "img");
  canvas.setAttribute("aria-label", `${title} ${over}`);
  made.append(element("figcaption", "", title), canvas);
  return made;
}

// Replace a table's rows by rows of texts.
function fill(table, rows) {
  table.tBodies[0].replaceChildren(...rows.map((cells) => {
    const made = element("tr");
    made.append(...cells.map((text) => element("td", "", text)));
    return made;
  }));
}
