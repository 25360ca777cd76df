// The page: what the server tells, what is shown of it, and what a person may choose.

const TAIL = 1500, RATE_ROWS = 200;
const run = { about: null, status: null, tail: null, episodes: [], stops: [], codes: [] };
const ground = { known: null, asked: false }; // where no cost is billed, as the viewer last told it
const shown = { kind: "live", item: null, rows: null, cursor: 0, playing: 0, wanted: 0 };

// What the server tells.

function forget() {
  ground.known = null;
  run.about = run.tail = null;
  run.episodes = []; run.stops = []; run.codes = [];
}

function learn(message) {
  run.status = message.status;
  if (message.about) { run.about = message.about; introduce(); }
  if (message.rows && message.rows.t) append(message.rows);
  if (message.codes) run.codes.push(...message.codes);
  if (message.episodes) run.episodes.splice(message.episodes_from, Infinity, ...message.episodes);
  if (message.stops && message.stops.length) {
    run.stops.push(...message.stops);
    run.stops.sort((a, b) => a.row - b.row);
    listStops();
  }
  if (message.episodes) listEpisodes();
  evidence();
  choose();
  life();
  if (shown.kind === "live" && message.rows) follow();
}

function append(rows) {
  const tail = run.tail;
  if (!tail || tail.last !== rows.first || rows.stride > 1) { run.tail = rows; return; }
  const over = Math.max(tail.t.length + rows.t.length - TAIL, 0);
  const join = (a, b) => a.concat(b).slice(over);
  const joined = { ...rows, first: tail.first + over };
  for (const [name, value] of Object.entries(rows)) {
    if (COLUMNS.has(name)) joined[name] = value.map((each, i) => join(tail[name][i], each));
    else if (Array.isArray(value)) joined[name] = join(tail[name], value);
  }
  run.tail = joined;
}

const COLUMNS = new Set(["proposed", "applied", "costs", "spent", "predicted", "ages", "position", "heading"]);

// Once the run is known, an old log opens at its last episode, and a running one at its newest period.
function choose() {
  if (shown.rows || !run.about || !run.tail) return;
  const last = run.episodes[run.episodes.length - 1];
  if (run.status.over && last) open("episode", last, last.first, last.last);
  else follow();
}

function life() {
  const status = run.status;
  let text = "connecting", kind = "";
  if (status && status.over) text = "The run is over";
  else if (status && (status.problem || status.tear)) [text, kind] = ["The log is damaged", "lost"];
  else if (status && run.about) [text, kind] = pulse(Math.max(2, 20 * run.about.period_s), "No new period", "the run ended, hangs, or waits");
  else if (status) text = "Waiting for the run's first period";
  tell(status, text, kind, status && status.tear && `The log cannot be read to its end: ${status.tear}.`);
}

// What a person may choose.

function follow() {
  shown.kind = "live";
  shown.item = null;
  shown.playing = 0;
  if (run.tail) put(run.tail, run.tail.t.length - 1);
}

async function open(kind, item, first, last, row) {
  const asked = ++shown.wanted;
  const answer = await fetch(`rows?first=${first}&last=${last}`);
  if (!answer.ok || asked !== shown.wanted) return;
  const rows = await answer.json();
  if (!rows.t) return;
  shown.kind = kind;
  shown.item = item;
  shown.playing = 0;
  put(rows, row === undefined ? rows.t.length - 1 : Math.round((row - rows.first) / rows.stride));
}

function put(rows, cursor) {
  shown.rows = rows;
  shown.cursor = Math.min(Math.max(cursor, 0), rows.t.length - 1);
  $("seek").max = rows.t.length - 1;
  render();
}

function play() {
  if (shown.playing) { shown.playing = 0; render(); return; }
  if (!shown.rows) return;
  if (shown.kind === "live") { shown.kind = "past"; shown.item = null; }
  if (shown.cursor >= shown.rows.t.length - 1) shown.cursor = 0;
  shown.playing = performance.now() / 1000 - shown.rows.t[shown.cursor];
  requestAnimationFrame(advance);
  render();
}

function advance() {
  if (!shown.playing) return;
  const now = performance.now() / 1000 - shown.playing, t = shown.rows.t;
  let cursor = shown.cursor;
  while (cursor < t.length - 1 && !(t[cursor + 1] > now)) cursor++;
  if (cursor >= t.length - 1) shown.playing = 0;
  if (cursor !== shown.cursor || !shown.playing) { shown.cursor = cursor; render(); }
  requestAnimationFrame(advance);
}

// Ask where no cost is billed, for a wider view than the map's, unless that is known.
async function survey(view) {
  const near = ground.known;
  if (!view || ground.asked || (near && !near.free)) return;
  const [wide, high] = [view.right - view.left, view.top - view.bottom];
  const holds = near && near.left <= view.left && near.bottom <= view.bottom && near.right >= view.right && near.top >= view.top;
  if (holds && near.right - near.left < 2 * wide) return;
  const wider = { left: view.left - 0.2 * wide, bottom: view.bottom - 0.2 * high, right: view.right + 0.2 * wide, top: view.top + 0.2 * high };
  if (!Object.values(wider).every((each) => Math.abs(each) < run.about.farthest_m)) return;
  ground.asked = true;
  try {
    const answer = await fetch(`places?${new URLSearchParams(wider)}`);
    if (!answer.ok) return;
    ground.known = await answer.json();
    render();
  } finally { ground.asked = false; }
}

// What is shown.

function introduce() {
  const about = run.about;
  document.title = `${about.name} · Holdfast`;
  $("run").textContent = about.name;
  $("about").textContent = `${about.task} on ${about.hardware_id || about.robot}, ${short(1 / about.period_s)} periods a second`
    + (about.exploring ? ", actions sampled" : "") + (about.lockstep ? ", a simulation in lockstep" : "");
  $("facts").textContent = `Contract ${about.contract_hash.slice(0, 12)}, bundle ${about.bundle_hash.slice(0, 12) || "none"}, seed ${about.seed}.`
    + (about.limits_known ? "" : " The log's limits are not those of this version of Holdfast, so geofence and release times are not shown.");
  const legend = $("legend");
  legend.replaceChildren(...about.states.map(({ name }) => element("span", `key is-${name}`, name)));
  $("actions").replaceChildren(...about.actions.map((each) => figure(`${each.name} [${each.unit}]`)));
  $("costs").replaceChildren(...about.costs.map((each) => figure(each.name)));
  $("bars").replaceChildren(...about.costs.map(bar));
}

function bar(cost) {
  const made = element("div", "cost");
  const drawn = element("div", "bar");
  const ends = element("p", "row quiet numbers");
  ends.append(element("span", "key limit", `limit d ${short(cost.limit)}`), element("span", "", `episode cap ${short(cost.cap)}`));
  drawn.append(element("i", "predicted"), element("i", "spent"), element("i", "mark"));
  made.append(element("b", "", cost.name), element("p", "numbers"), drawn, ends);
  return made;
}

function render() {
  const { rows, cursor } = shown, about = run.about;
  if (!rows || !about) return;
  $("seek").value = cursor;
  $("live").setAttribute("aria-pressed", String(shown.kind === "live"));
  $("live").hidden = Boolean(run.status.over);
  $("play").textContent = shown.playing ? "Pause" : "Play";
  drawStrip($("strip"), rows, cursor);
  moment(rows, cursor);
  monitor(rows, cursor);
  budget(rows, cursor);
  survey(drawMap($("map"), rows, cursor, about, ground.known));
  document.querySelector(".key.free").hidden = !(ground.known && ground.known.free);
  document.querySelector(".key.scan").hidden = !rows.scan;
  document.querySelector(".key.fence").hidden = !about.fence;
  about.actions.forEach((each, i) => chart($("actions").children[i].querySelector("canvas"), rows.t,
    [{ ys: rows.proposed[i], shade: "--proposed", width: 1.2 }, { ys: rows.applied[i], shade: "--accent", width: 1.8 }],
    [{ y: each.low }, { y: each.high }], cursor));
  about.costs.forEach((each, i) => chart($("costs").children[i].querySelector("canvas"), rows.t,
    [{ ys: rows.predicted[i], shade: "--proposed", width: 1.2 }, { ys: rows.spent[i], shade: "--accent", width: 1.8 }],
    [{ y: each.limit, label: "limit d" }, { y: each.cap, label: "episode cap" }], cursor));
  rates(rows, cursor);
}

function moment(rows, cursor) {
  const titles = {
    live: "The newest periods", past: "Earlier periods",
    episode: shown.item && `Episode ${shown.item.number}`,
    stop: shown.item && (shown.item.episode === null ? "The ten seconds before a stop between episodes" : `The ten seconds before the stop of episode ${shown.item.episode}`),
  };
  $("window").textContent = titles[shown.kind];
  const step = rows.step[cursor] < 0 ? "not armed" : `episode ${rows.episode[cursor]}, step ${rows.step[cursor]}`;
  const seconds = known(rows.t[cursor] - rows.t[0]) ? `${(rows.t[cursor] - rows.t[0]).toFixed(2)} s of ${(rows.t[rows.t.length - 1] - rows.t[0]).toFixed(2)} s` : "the time is not known";
  const every = rows.stride > 1 ? `; one of ${rows.stride} periods is shown` : "";
  $("moment").textContent = `${seconds}: ${step}${every}`;
}

// Return the stop that holds the robot at a row, or undefined.
function stopAt(row, codes, atEnd) {
  const before = run.stops.filter((stop) => stop.row <= row);
  const last = before[before.length - 1];
  return last && (last.row === row ? atEnd || codes.includes(last.code) : codes.includes(last.code)) ? last : undefined;
}

function monitor(rows, cursor) {
  const about = run.about, codes = rows.reasons[cursor].map((k) => run.codes[k]).filter(Boolean);
  const row = rows.first + cursor * rows.stride;
  let state = rows.state[cursor];
  const last = row === run.status.rows - 1, ended = shown.kind === "episode" && row === shown.item.last - 1;
  const stop = state === 0 || last || ended ? stopAt(row, codes.map((each) => each.code), true) : undefined;
  if (stop) state = 0;
  const known = about.states[state] || { name: `state ${state}`, meaning: "This version of Holdfast does not know the state.", release: "" };
  $("monitor").className = `card state is-${STATES[state] || "STOPPED"}`;
  $("state").textContent = known.name;
  $("meaning").textContent = known.meaning;
  const items = [];
  if (stop) items.push(reason(stop.text, stop.code, stop.against));
  for (const each of codes) if (!stop || each.code !== stop.code) items.push(reason(each.when, each.code, each.against));
  $("reasons").replaceChildren(...items);
  const release = stop ? stop.release : known.release;
  $("release").textContent = state === 0 || codes.length || state === 1 ? release : "";
}

function reason(text, code, against) {
  const made = element("li", "", sentence(text));
  made.append(element("small", "", code + (against && against !== "operator" ? `, speaks against the ${against}` : "")));
  return made;
}

function sentence(text) {
  const upper = /^[a-z]+[ ,]/.test(text) ? text.charAt(0).toUpperCase() + text.slice(1) : text; // a name stays as it is
  return /[.!?]$/.test(upper) ? upper : upper + ".";
}

function budget(rows, cursor) {
  run.about.costs.forEach((cost, i) => {
    const made = $("bars").children[i], drawn = made.querySelector(".bar");
    const spent = rows.spent[i][cursor], predicted = rows.predicted[i][cursor];
    const share = (value) => (known(value) ? Math.min(Math.max(value / cost.cap, 0), 1) * 100 : 0) + "%"; // the end is the cap
    drawn.querySelector(".spent").style.width = share(spent);
    drawn.querySelector(".predicted").style.width = share(predicted);
    drawn.querySelector(".mark").style.left = share(cost.limit);
    const expected = known(predicted) ? `${short(predicted)} predicted for the episode` : "no prediction";
    made.querySelector("p").textContent = `${short(spent)} spent, ${expected}`;
  });
}

function rates(rows, cursor) {
  const from = Math.max(cursor - RATE_ROWS, 0), lines = [];
  const gaps = [];
  for (let i = from + 1; i <= cursor; i++) if (rows.stride === 1 && known(rows.t[i]) && known(rows.t[i - 1])) gaps.push(rows.t[i] - rows.t[i - 1]);
  if (gaps.length) {
    const mean = gaps.reduce((a, b) => a + b, 0) / gaps.length;
    lines.push([`Rate of the loop, mean of ${gaps.length} periods`, mean > 0 ? `${(1 / mean).toFixed(2)} Hz` : "unknown"]);
    lines.push(["Longest period of these", `${(1000 * Math.max(...gaps)).toFixed(1)} ms`]);
  }
  const ages = (name, all) => {
    const some = all.slice(from, cursor + 1).filter(known);
    const now = all[cursor];
    lines.push([name, (known(now) ? `${(1000 * now).toFixed(1)} ms` : "none") + (some.length ? `, at most ${(1000 * Math.max(...some)).toFixed(1)} ms` : "")]);
  };
  ages("Age of the proposal", rows.proposal_age);
  run.about.sources.forEach((name, i) => ages(`Age of the reading of ${name}`, rows.ages[i]));
  const episode = run.episodes.find((each) => each.number === rows.episode[cursor]);
  if (episode && episode.ended !== "running") lines.push(["Missed deadlines of the episode", String(episode.deadline_misses)]);
  if (episode) lines.push(["Interventions of the episode", String(episode.interventions)]);
  fill($("rates"), lines);
}

function listStops() {
  const made = run.stops.map((stop) => {
    const button = element("button", "", sentence(stop.text));
    button.type = "button";
    const where = stop.episode === null ? "between episodes" : `episode ${stop.episode}`;
    const when = stop.unix_s === null ? "" : `, ${new Date(1000 * stop.unix_s).toLocaleString()}`;
    button.append(element("small", "", `${where}${when}, ${stop.code}`));
    button.onclick = () => open("stop", stop, stop.first, stop.row + 1);
    const item = element("li");
    item.append(button);
    return item;
  });
  $("stops").replaceChildren(...made.reverse());
}

function listEpisodes() {
  const list = $("episodes");
  run.episodes.forEach((episode, k) => {
    let button = list.children[k];
    if (!button) {
      button = element("button", "", String(episode.number));
      button.type = "button";
      button.onclick = () => { const now = run.episodes[k]; open("episode", now, now.first, now.last); };
      list.append(button);
    }
    button.className = ["completed", "stopped"].includes(episode.ended) ? episode.ended : "running";
    button.title = told(episode);
    button.setAttribute("aria-label", told(episode));
  });
  while (list.children.length > run.episodes.length) list.lastChild.remove();
  const now = shown.kind === "episode" ? shown.item : run.episodes[run.episodes.length - 1];
  $("episode").textContent = now ? told(now) : "No episode has begun.";
}

function told(episode) {
  const costs = run.about.costs.map((cost, i) => `${cost.name} ${short(episode.costs[i])}`).join(", ");
  const paid = episode.return === null ? "" : `, return ${short(episode.return)}`;
  const end = episode.ended === "running" ? "the log does not hold the end yet" : episode.ended + (episode.text ? `: ${episode.text}` : "");
  return `Episode ${episode.number}: ${episode.steps} steps, ${costs}${paid}, ${episode.interventions} intervention${episode.interventions === 1 ? "" : "s"}; ${end}.`;
}

function evidence() {
  const all = run.status.evidence;
  $("evidence-card").hidden = !all;
  if (!all) return;
  $("evidence").replaceChildren(...all.flatMap((each) => {
    const cost = run.about.costs.find(({ name }) => name === each.name);
    const mean = each.mean === null ? "" : `, mean ${short(each.mean)}`;
    return [
      element("p", "numbers", `${each.name}: ${each.episodes} episode${each.episodes === 1 ? "" : "s"}${mean}, limit d ${short(cost.limit)}`),
      gauge("Certificate: the mean is below d", each.keeps, ""),
      gauge("Alarm: the mean is above d", each.exceeds, "alarm"),
      gauge("Alarm: the episode cap is hit too often", each.capped, "alarm"),
    ];
  }));
}

function gauge(title, process, kind) {
  const made = element("div", "gauge " + kind);
  const progress = element("progress");
  progress.value = process.share;
  progress.setAttribute("aria-label", title);
  const since = process.reached_at === null ? `${(100 * process.share).toFixed(0)} % of the way` : `evident after ${process.reached_at} episodes`;
  made.append(element("span", "quiet", `${title}: ${since}`), progress);
  return made;
}

$("seek").oninput = () => {
  if (shown.kind === "live") { shown.kind = "past"; shown.item = null; }
  shown.playing = 0;
  shown.cursor = Number($("seek").value);
  render();
};
$("strip").onclick = (event) => {
  const box = $("strip").getBoundingClientRect();
  $("seek").value = Math.round((event.clientX - box.left) / box.width * Number($("seek").max));
  $("seek").oninput();
};
$("play").onclick = play;
$("live").onclick = follow;
window.addEventListener("resize", render);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", render);
connect(learn, forget, life);
