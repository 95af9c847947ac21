// Executes the tasks of a topic, many at a time, over one Work stream.
//
//     npm ci && node worker.js ADDRESS TOPIC [COUNT]
//
// Each task is "executed" by waiting for as many milliseconds as its payload says ({"ms": 20}). The worker prints
// `done ID` for every task whose commit was accepted, `settled ID` when it cannot know since the answer to that was
// lost, and `lost ID` when others have the task. It stops after COUNT that are done or settled, or on SIGTERM.
'use strict';

const { connect } = require('./ratus');

const CONCURRENCY = 20;
const TIMEOUT_MS = Number(process.env.TIMEOUT_MS ?? 30_000); // that a promise lasts; extended while a task takes longer
const RETRY = { seconds: 60 }; // until a task that failed is tried again
const FIRST_PAUSE = 100; // milliseconds until a new attempt to connect, doubled each time
const LONGEST_PAUSE = 5000;

function duration(ms) {
  return { seconds: Math.floor(ms / 1000), nanos: (ms % 1000) * 1e6 };
}

async function execute(task) {
  const { ms = 10 } = task.payload?.length ? JSON.parse(task.payload.toString()) : {};
  if (typeof ms !== 'number') throw new Error(`ms is no number: ${ms}`);
  await new Promise((resolve) => { setTimeout(resolve, ms); });
}

class Worker {
  constructor(address, topic, count) {
    this.topic = topic;
    this.left = count ?? Infinity;
    this.promises = connect(address).promises;
    this.running = new Map(); // id -> nonce, of the tasks that are being executed
    this.finished = []; // commits that wait to be sent
    this.unanswered = new Map(); // sequence -> commits that were sent
    this.old = new Set(); // ids of tasks from connections before that are not settled yet; they count too
    this.sequence = 0;
    this.failures = 0;
    this.started = false; // the server has answered `start`
    this.stopping = false;
    setInterval(() => this.extend(), TIMEOUT_MS / 3);
    this.ended = new Promise((resolve) => { this.resolveEnded = resolve; });
    this.open();
  }

  open() {
    this.started = false;
    this.old = new Set([...this.running.keys(), ...this.finished.map(({ id }) => id)]);
    this.stream = this.promises.Work();
    this.stream.on('data', (message) => this.receive(message));
    this.stream.on('error', () => {}); // 'status' says it too
    this.stream.on('status', () => this.reopen());
    this.say({
      start: {
        topics: [this.topic],
        consumer: `worker.js ${process.pid}`,
        max_in_flight: this.window(),
        timeout: duration(TIMEOUT_MS),
        release_on_close: true,
      },
    });
  }

  reopen() {
    this.started = false;
    if (this.stopping && this.idle()) {
      this.resolveEnded();
      return;
    }
    for (const commits of this.unanswered.values()) this.repeat(commits);
    this.unanswered.clear();
    const longest = Math.min(FIRST_PAUSE * 2 ** this.failures, LONGEST_PAUSE);
    const pause = Math.round(longest * (0.5 + Math.random() / 2));
    this.failures += 1;
    console.error(`connecting again in ${pause} ms`);
    setTimeout(() => this.open(), pause);
  }

  say(request) {
    this.sequence += 1;
    this.stream.write({ sequence: this.sequence, ...request });
    return String(this.sequence);
  }

  receive(message) {
    switch (message.response) {
      case 'tasks':
        for (const task of message.tasks.tasks ?? []) this.begin(task);
        break;
      case 'lost': // others will execute these; to commit them would fail
        for (const id of message.lost.ids) this.running.delete(id);
        break;
      case 'results':
        this.results(message.results);
        break;
    }
  }

  async begin(task) {
    if (this.stopping) return; // given back when the stream ends; sooner, it would come again at once
    this.running.set(task.id, task.nonce);
    const commit = { nonce: task.nonce };
    try {
      await execute(task);
    } catch (error) {
      console.error(`${task.id} has failed: ${error.message}`);
      Object.assign(commit, { state: 'TASK_STATE_PENDING', defer: RETRY });
    }
    if (this.running.get(task.id) !== task.nonce) { // lost meanwhile
      this.forget(task.id);
      return;
    }
    this.running.delete(task.id);
    this.finished.push({ id: task.id, commit });
    if (this.finished.length === 1) setImmediate(() => this.commit()); // with all that finish in this turn
  }

  commit() {
    if (!this.started || !this.finished.length) return;
    const commits = this.finished;
    this.finished = [];
    this.unanswered.set(this.say({ commit: { commits } }), commits);
  }

  // Whether these commits were applied is not known. To send them again is safe: they have nonces.
  repeat(commits) {
    this.finished.push(...commits.map((commit) => ({ ...commit, repeated: true })));
  }

  // How many tasks may be delivered on this connection.
  window() {
    return Math.max(1, CONCURRENCY - this.old.size);
  }

  forget(id) {
    if (this.old.delete(id) && this.started && !this.stopping) this.say({ window: { max_in_flight: this.window() } });
  }

  extend() {
    if (!this.started || !this.running.size) return;
    const extensions = [...this.running].map(([id, nonce]) => ({ id, nonce, timeout: duration(TIMEOUT_MS) }));
    this.say({ extend: { extensions } });
  }

  results({ sequence, status, commit }) {
    if (!this.started) { // the answer to `start`
      this.started = true;
      this.failures = 0;
      this.commit();
      return;
    }
    const commits = this.unanswered.get(sequence);
    if (!commits) return;
    this.unanswered.delete(sequence);
    if (status?.code) { // the message failed as a whole, for one because the storage is away
      this.repeat(commits);
      setTimeout(() => this.commit(), LONGEST_PAUSE * Math.random());
      return;
    }
    commits.forEach(({ id, repeated }, index) => {
      const refused = commit.results[index].status?.code ?? 0;
      // What is refused when it is repeated may have been applied before.
      console.log(`${refused ? (repeated ? 'settled' : 'lost') : 'done'} ${id}`);
      if (!refused || repeated) this.left -= 1;
      this.forget(id);
    });
    if (this.left <= 0) this.stop();
    this.endIfIdle();
  }

  idle() {
    return !this.running.size && !this.finished.length && !this.unanswered.size;
  }

  // Take no more tasks, finish those that were begun, then end the stream.
  stop() {
    this.stopping = true;
    if (this.started) this.say({ window: { max_in_flight: 1 } });
    this.endIfIdle();
  }

  endIfIdle() {
    if (!this.stopping || !this.idle()) return;
    if (this.started) this.stream.end(); // the server ends its side too, once it has answered all
    else this.resolveEnded();
  }
}

const [address, topic, count] = process.argv.slice(2);
if (!topic) {
  console.error('usage: node worker.js ADDRESS TOPIC [COUNT]');
  process.exit(2);
}
const worker = new Worker(address, topic, count === undefined ? undefined : Number(count));
process.on('SIGTERM', () => worker.stop());
worker.ended.then(() => process.exit(0));
