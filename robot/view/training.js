// The page of a training: the curves of its iterations, and the numbers of one of them.

const training = { about: null, status: null, records: [] };
const shown = { live: true, cursor: 0 };

function forget() {
  training.about = null;
  training.records = [];
}

function learn(message) {
  training.status = message.status;
  if (message.about) { training.about = message.about; introduce(); }
  if (message.records) {
    training.records.splice(message.from, Infinity, ...message.records);
    $("seek").max = training.records.length - 1;
    if (shown.live) shown.cursor = training.records.length - 1;
    shown.cursor = Math.min(shown.cursor, training.records.length - 1);
    render();
  }
  life();
}

function life() {
  const status = training.status;
  let text = "connecting", kind = "";
  if (status && status.over) text = "The training is over";
  else if (status && status.problem) [text, kind] = ["The records are damaged", "lost"];
  else if (status && training.records.length) [text, kind] = pulse(10 + 5 * status.lasts_s, "No new iteration", "the training was interrupted, or hangs");
  else if (status) text = "Waiting for the first iteration";
  tell(status, text, kind);
}

function introduce() {
  const about = training.about;
  document.title = `${about.name} · Holdfast`;
  $("run").textContent = about.name;
  $("about").textContent = about.task ? `${about.task}, algorithm ${about.algorithm}` : "The records do not name the task.";
  const over = "over the iterations";
  $("return").replaceChildren(figure("sum of the rewards, mean of an iteration's episodes", over));
  $("costs").replaceChildren(...about.costs.map((cost) => figure(cost.limit === null ? `${cost.name}; the records hold no one limit of it` : cost.name, over)));
  $("kl").replaceChildren(figure("KL divergence of the new policy from the old one [nats]", over));
  $("speed").replaceChildren(figure("simulated steps per second, with the updates", over));
  const head = element("tr");
  head.append(...["", "iteration", `mean of ${about.last}`, "limit d"].map((text) => element("th", "", text)));
  $("numbers").tHead.replaceChildren(head);
}

function render() {
  const { records, about, status } = training;
  if (!records.length || !about) return;
  const xs = records.map((each) => each.iteration);
  const ends = [`iteration ${xs[0]}`, String(xs[xs.length - 1])];
  const draw = (box, of, bounds) => chart(box.querySelector("canvas"), xs, [{ ys: records.map(of), shade: "--accent", width: 1.6 }], bounds, shown.cursor, ends);
  draw($("return"), (each) => each.return, []);
  about.costs.forEach(({ name, limit }, i) => draw($("costs").children[i], (each) => each.costs[name], [{ y: limit, label: "limit d" }]));
  draw($("kl"), (each) => each.kl, []);
  draw($("speed"), (each) => each.steps_per_s, []);
  $("seek").value = shown.cursor;
  $("live").setAttribute("aria-pressed", String(shown.live));
  $("live").hidden = Boolean(status.over);
  numbers(records[shown.cursor]);
}

function numbers(now) {
  const { about, status, records } = training;
  const last = records.slice(Math.max(shown.cursor + 1 - about.last, 0), shown.cursor + 1);
  const row = (title, of, limit) => [title, short(of(now)), short(last.reduce((sum, each) => sum + of(each), 0) / last.length), limit];
  fill($("numbers"), [
    row("return", (each) => each.return, ""),
    ...about.costs.map(({ name, limit }) => row(name, (each) => each.costs[name], limit === null ? "unknown" : short(limit))),
    row("KL, nats", (each) => each.kl, ""),
    row("steps/s", (each) => each.steps_per_s, ""),
  ]);
  const all = status.iterations === null ? "" : ` of ${status.iterations}`;
  $("window").textContent = `Iteration ${now.iteration}${all}, after ${now.steps.toLocaleString("en")} steps`;
  const tries = now.accepted === null ? "no step was accepted" : now.accepted === 0 ? "the first step was accepted"
    : `${now.accepted} step${now.accepted === 1 ? " was" : "s were"} tried and refused before the one that was accepted`;
  $("update").textContent = `Update "${now.case}": ${tries}.`;
}

$("seek").oninput = () => {
  shown.live = false;
  shown.cursor = Number($("seek").value);
  render();
};
$("live").onclick = () => {
  shown.live = true;
  shown.cursor = training.records.length - 1;
  render();
};
window.addEventListener("resize", render);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", render);
connect(learn, forget, life);
