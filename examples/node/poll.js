// Consumes the tasks of a topic: prints each and commits it.
//
//     npm ci && node poll.js ADDRESS TOPIC [COUNT]
//
// stops after COUNT tasks, or never.
'use strict';

const { connect } = require('./ratus');

function commit(tasks, task) {
  // The nonce proves that the promise is still ours; without it we might commit what others redo.
  return new Promise((resolve, reject) => {
    tasks.CommitTask({ id: task.id, commit: { nonce: task.nonce } }, (error) => (error ? reject(error) : resolve()));
  });
}

async function main(address, topic, count) {
  const { promises, tasks, close } = connect(address);
  let done = 0;
  // Tasks come as they become due; the next one once this one is committed, since max_in_flight is 1.
  const stream = promises.Poll({ topics: [topic], consumer: 'poll.js' });
  for await (const response of stream) {
    for (const task of response.tasks) {
      console.log(task.id, task.payload.toString());
      await commit(tasks, task);
      done += 1;
      if (done === count) {
        stream.cancel();
        close();
        return;
      }
    }
  }
}

const [address, topic, count] = process.argv.slice(2);
if (!topic) {
  console.error('usage: node poll.js ADDRESS TOPIC [COUNT]');
  process.exit(2);
}
main(address, topic, count === undefined ? undefined : Number(count)).catch((error) => {
  console.error(error.message);
  process.exitCode = 1;
});
