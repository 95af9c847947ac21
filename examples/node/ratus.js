// What the examples share: stubs that are made from the .proto files as they are; nothing is generated.
'use strict';

const path = require('node:path');
const grpc = require('@grpc/grpc-js');
const protoLoader = require('@grpc/proto-loader');

const PROTOS = path.join(__dirname, '..', '..', 'proto');
const GOOGLE = path.dirname(require.resolve('google-proto-files/package.json')); // google/rpc/status.proto
const FILES = ['ratus/v1/promise_service.proto', 'ratus/v1/task_service.proto'];

const OPTIONS = {
  // A connection that has died in silence is found within half a minute, and made anew soon after the server is back.
  'grpc.keepalive_time_ms': 20_000,
  'grpc.keepalive_timeout_ms': 10_000,
  'grpc.initial_reconnect_backoff_ms': 100,
  'grpc.max_reconnect_backoff_ms': 5_000,
};

/** The stubs of two services on one connection; `close` ends it. */
function connect(address) {
  const definition = protoLoader.loadSync(FILES, {
    includeDirs: [PROTOS, GOOGLE],
    keepCase: true,
    longs: String,
    enums: String,
    defaults: true,
    oneofs: true,
  });
  const { PromiseService, TaskService } = grpc.loadPackageDefinition(definition).ratus.v1;
  const promises = new PromiseService(address, grpc.credentials.createInsecure(), OPTIONS);
  const tasks = new TaskService(address, null, { channelOverride: promises.getChannel() });
  return { promises, tasks, close: () => promises.close() };
}

module.exports = { connect };
