// The page of a twin: its robot's geoms in three dimensions, where the simulation has them.

const twin = { about: null, status: null, pose: null, parts: [], way: [] };
const eye = { turn: -2.2, rise: 0.5, away: 0, at: [0, 0, 0], follow: true, asked: false };
const WAY = 4000; // most points of the line

const VERTEX = `#version 300 es
uniform mat4 view; uniform vec3 position; uniform vec4 orientation; // w, x, y, z
in vec3 corner; out vec3 world;
void main() {
  vec3 axis = orientation.yzw;
  world = position + corner + 2.0 * cross(axis, cross(axis, corner) + orientation.x * corner);
  gl_Position = view * vec4(world, 1.0);
}`;
const FRAGMENT = `#version 300 es
precision highp float;
uniform vec4 colour; uniform vec3 from; uniform int kind; // 0: a body, 1: a floor, 2: a line
in vec3 world; out vec4 seen;
void main() {
  vec3 light = normalize(vec3(0.3, 0.2, 1.0)), facing = normalize(cross(dFdx(world), dFdy(world)));
  if (dot(facing, from - world) < 0.0) facing = -facing;
  float bright = kind == 2 ? 1.0 : 0.5 + 0.5 * max(dot(facing, light), 0.0);
  vec2 square = floor(world.xy);
  if (kind == 1 && mod(square.x + square.y, 2.0) < 0.5) bright *= 0.93;
  seen = vec4(colour.rgb * bright, 1.0) * colour.a; // multiplied by its opacity, as a page expects
}`;

const gl = $("picture").getContext("webgl2", { antialias: true });
const program = gl && build();
const at = {};
if (gl) for (const name of ["view", "position", "orientation", "colour", "from", "kind"]) at[name] = gl.getUniformLocation(program, name);
const trail = gl && buffer(new Float32Array());

function build() {
  const made = gl.createProgram();
  for (const [kind, text] of [[gl.VERTEX_SHADER, VERTEX], [gl.FRAGMENT_SHADER, FRAGMENT]]) {
    const shader = gl.createShader(kind);
    gl.shaderSource(shader, text);
    gl.compileShader(shader);
    gl.attachShader(made, shader);
  }
  gl.bindAttribLocation(made, 0, "corner");
  gl.linkProgram(made);
  if (!gl.getProgramParameter(made, gl.LINK_STATUS)) throw Error(gl.getProgramInfoLog(made));
  return made;
}

function buffer(corners) {
  const made = { data: gl.createBuffer(), count: corners.length / 3 };
  gl.bindBuffer(gl.ARRAY_BUFFER, made.data);
  gl.bufferData(gl.ARRAY_BUFFER, corners, gl.STATIC_DRAW);
  return made;
}

function forget() {
  twin.way = [];
}

function learn(message) {
  twin.status = message.status;
  if (message.about) introduce(message.about);
  if (message.parts && gl) {
    for (const part of twin.parts) gl.deleteBuffer(part.data);
    twin.parts = message.parts.map((part) => {
      const bytes = Uint8Array.from(atob(part.corners), (letter) => letter.charCodeAt(0));
      return { ...part, ...buffer(new Float32Array(bytes.buffer)) };
    });
    twin.parts.sort((a, b) => b.colour[3] - a.colour[3]); // what is transparent comes last
  }
  if (message.pose) move(message.pose);
  life();
}

function introduce(about) {
  twin.about = about;
  eye.away = eye.away || 5 * about.reach_m;
  document.title = `${about.robot} · Holdfast`;
  $("run").textContent = `Twin of robot ${about.robot}`;
  $("about").textContent = `${about.task}, ${about.lockstep ? "in lockstep: time passes with commands" : "in real time"}`;
}

function move(pose) {
  const old = twin.pose, place = pose.position[twin.about.base];
  if (!old || old.starts !== pose.starts) twin.way = [];
  if (!old || old.time_s !== pose.time_s || old.starts !== pose.starts) twin.way.push(place);
  if (twin.way.length > WAY) twin.way.shift();
  twin.pose = pose;
  if (eye.follow) eye.at = place;
  fill($("numbers"), [
    ["simulated time", `${pose.time_s.toFixed(2)} s`],
    ["start poses so far", String(pose.starts)],
    ["position of the base x, y, z", `${place.map((each) => each.toFixed(3)).join(", ")} m`],
  ]);
  redraw();
}

function life() {
  let text = "connecting", kind = "";
  if (twin.status && twin.about && twin.about.lockstep) {
    [text, kind] = pulse(2, "No command", "time passes with commands");
    kind = "live";
  } else if (twin.status) [text, kind] = pulse(2, "No new pose", "the twin hangs");
  tell(twin.status, text, kind, gl ? "" : "The picture needs WebGL 2, which this browser does not have.");
}

const dot = (a, b) => a.reduce((sum, each, i) => sum + each * b[i], 0);
const cross = (a, b) => [a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]];
const unit = (a) => a.map((each) => each / Math.hypot(...a));

// Return where the eye is, and the matrix from the world to what it sees, by columns.
function sight(wide, high) {
  const back = [Math.cos(eye.rise) * Math.cos(eye.turn), Math.cos(eye.rise) * Math.sin(eye.turn), Math.sin(eye.rise)];
  const from = eye.at.map((each, i) => each + eye.away * back[i]);
  const right = unit(cross([0, 0, 1], back)), up = cross(back, right);
  const zoom = 2.4 * Math.min(wide / high, 1), near = 0.02 * eye.away, far = 100 * eye.away + 100;
  const rows = [right, up, back].map((axis) => [...axis, -dot(axis, from)]);
  const seen = [
    rows[0].map((each) => each * zoom * high / wide),
    rows[1].map((each) => each * zoom),
    rows[2].map((each, i) => ((far + near) * each + (i === 3 ? 2 * far * near : 0)) / (near - far)),
    rows[2].map((each) => -each),
  ];
  return [from, [0, 1, 2, 3].flatMap((column) => seen.map((row) => row[column]))];
}

// Draw soon: once, however often it is asked for in the meantime.
function redraw() {
  if (!eye.asked) requestAnimationFrame(draw);
  eye.asked = true;
}

function draw() {
  eye.asked = false;
  if (!gl || !twin.pose) return;
  const canvas = $("picture"), scale = window.devicePixelRatio || 1;
  const wide = canvas.clientWidth, high = Math.max(Math.min(0.6 * wide, 0.7 * window.innerHeight), 200);
  canvas.style.height = `${high}px`;
  [canvas.width, canvas.height] = [wide * scale, high * scale].map(Math.round);
  gl.viewport(0, 0, canvas.width, canvas.height);
  gl.enable(gl.DEPTH_TEST);
  gl.enable(gl.BLEND);
  gl.blendFunc(gl.ONE, gl.ONE_MINUS_SRC_ALPHA);
  gl.clearColor(0, 0, 0, 0); // the page's own ground
  gl.clear(gl.COLOR_BUFFER_BIT | gl.DEPTH_BUFFER_BIT);
  const [from, view] = sight(wide, high), { position, orientation } = twin.pose;
  gl.useProgram(program);
  gl.uniformMatrix4fv(at.view, false, view);
  gl.uniform3fv(at.from, from);
  for (const part of twin.parts) paint(part, gl.TRIANGLES, part.floor ? 1 : 0, part.colour, position[part.body], orientation[part.body]);
  const way = twin.way.flatMap(([x, y]) => [x, y, 0.01]);
  gl.bindBuffer(gl.ARRAY_BUFFER, trail.data);
  gl.bufferData(gl.ARRAY_BUFFER, new Float32Array(way), gl.DYNAMIC_DRAW);
  trail.count = twin.way.length;
  paint(trail, gl.LINE_STRIP, 2, [0.15, 0.4, 0.95, 1], [0, 0, 0], [1, 0, 0, 0]);
}

function paint(part, mode, kind, colour, position, orientation) {
  gl.bindBuffer(gl.ARRAY_BUFFER, part.data);
  gl.enableVertexAttribArray(0);
  gl.vertexAttribPointer(0, 3, gl.FLOAT, false, 0, 0);
  gl.uniform1i(at.kind, kind);
  gl.uniform4fv(at.colour, colour);
  gl.uniform3fv(at.position, position);
  gl.uniform4fv(at.orientation, orientation);
  gl.drawArrays(mode, 0, part.count);
}

const fingers = new Map(); // pointers that are down, and where
const spread = () => { const [a, b] = fingers.values(); return Math.hypot(a[0] - b[0], a[1] - b[1]); };

function nearer(factor) {
  eye.away = Math.min(Math.max(eye.away * factor, 0.1), 500);
  redraw();
}

$("picture").onpointerdown = (event) => {
  event.target.setPointerCapture(event.pointerId);
  fingers.set(event.pointerId, [event.clientX, event.clientY]);
};
$("picture").onpointermove = (event) => {
  const before = fingers.get(event.pointerId);
  if (!before) return;
  const now = [event.clientX, event.clientY], apart = fingers.size === 2 && spread();
  fingers.set(event.pointerId, now);
  if (apart) return nearer(apart / Math.max(spread(), 1));
  eye.turn -= 0.01 * (now[0] - before[0]);
  eye.rise = Math.min(Math.max(eye.rise + 0.01 * (now[1] - before[1]), -0.1), 1.5);
  redraw();
};
$("picture").onpointerup = $("picture").onpointercancel = (event) => fingers.delete(event.pointerId);
$("picture").addEventListener("wheel", (event) => { event.preventDefault(); nearer(Math.exp(0.001 * event.deltaY)); }, { passive: false });
$("follow").onclick = () => {
  eye.follow = !eye.follow;
  $("follow").setAttribute("aria-pressed", String(eye.follow));
};
window.addEventListener("resize", redraw);
connect(learn, forget, life);
