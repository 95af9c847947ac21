// Executes the tasks of a topic, many at a time: Poll delivers them, CommitTasks acknowledges them in batches.
//
//     worker ADDRESS TOPIC [COUNT]
//
// Each task is "executed" by waiting for as many milliseconds as its payload says ({"ms": 20}). The worker prints
// `done ID` for every task whose commit was accepted, and stops after COUNT of them, or on SIGTERM or SIGINT: then it
// finishes what it has begun and gives back the rest.

#include <google/protobuf/struct.pb.h>
#include <google/protobuf/util/json_util.h>
#include <grpcpp/grpcpp.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <csignal>
#include <cstdlib>
#include <deque>
#include <iostream>
#include <limits>
#include <map>
#include <mutex>
#include <random>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "ratus/v1/promise_service.grpc.pb.h"
#include "ratus/v1/task_service.grpc.pb.h"

using namespace std::chrono_literals;
namespace v1 = ratus::v1;
using Milliseconds = std::chrono::milliseconds;

constexpr int kConcurrency = 20;
constexpr int kRetrySeconds = 60;         // until a task that failed is tried again
constexpr Milliseconds kFirstPause{100};  // until a new attempt, doubled each time
constexpr Milliseconds kLongestPause{5000};
constexpr auto kCallTime = 10s;  // for an answer, and for the last commits when there is no server

void Set(google::protobuf::Duration* duration, Milliseconds value) {
  duration->set_seconds(value.count() / 1000);
  duration->set_nanos(static_cast<int>(value.count() % 1000) * 1'000'000);
}

// A pause that grows with the failures, and varies, so that workers do not all come at once.
Milliseconds Pause(int failures) {
  static thread_local std::mt19937 random{std::random_device{}()};
  const auto longest = std::min(kFirstPause * (1 << std::min(failures, 10)), kLongestPause);
  return Milliseconds(std::uniform_int_distribution<Milliseconds::rep>(longest.count() / 2, longest.count())(random));
}

// Payloads are JSON, for which protobuf has a type.
void Execute(const v1::Task& task) {
  double ms = 10;
  if (!task.payload().empty()) {
    google::protobuf::Struct payload;
    if (!google::protobuf::util::JsonStringToMessage(task.payload(), &payload).ok())
      throw std::runtime_error("the payload is no JSON object");
    const auto field = payload.fields().find("ms");
    if (field != payload.fields().end()) {
      if (!field->second.has_number_value()) throw std::runtime_error("ms is no number");
      ms = field->second.number_value();
    }
  }
  std::this_thread::sleep_for(std::chrono::duration<double, std::milli>(ms));
}

class Worker {
 public:
  Worker(const std::shared_ptr<grpc::Channel>& channel, std::string topic, int count, Milliseconds timeout)
      : promises_(v1::PromiseService::NewStub(channel)),
        tasks_(v1::TaskService::NewStub(channel)),
        topic_(std::move(topic)),
        left_(count),
        timeout_(timeout) {}

  // Works until it is stopped. The status of a subscription that the server refuses.
  grpc::Status Run() {
    std::vector<std::thread> executors;
    for (int i = 0; i < kConcurrency; ++i) executors.emplace_back([this] { ExecuteTasks(); });
    std::thread committer([this] { CommitTasks(); });
    std::thread extender([this] { ExtendPromises(); });
    const auto status = Listen();
    Stop();
    for (auto& executor : executors) executor.join();
    {
      std::lock_guard lock(mutex_);
      for (const auto& task : waiting_) finished_.push_back(Settlement(task, v1::TASK_STATE_PENDING));
      ended_ = std::chrono::steady_clock::now();
      ending_ = true;
    }
    changed_.notify_all();
    committer.join();
    extender.join();
    return status;
  }

  // Take no more tasks; Run returns once those that were begun are done.
  void Stop() {
    {
      std::lock_guard lock(mutex_);
      stopping_ = true;
      if (stream_) stream_->TryCancel();
    }
    changed_.notify_all();
  }

 private:
  // Reads the stream, and opens it anew when it breaks. What was delivered before is still executed and committed.
  grpc::Status Listen() {
    v1::PollRequest request;
    request.add_topics(topic_);
    request.set_consumer("worker.cpp " + std::to_string(getpid()));
    request.set_max_in_flight(kConcurrency);
    Set(request.mutable_timeout(), timeout_);
    for (int failures = 0;; ++failures) {
      grpc::ClientContext context;
      {
        std::lock_guard lock(mutex_);
        if (stopping_) return grpc::Status::OK;
        stream_ = &context;
      }
      const auto reader = promises_->Poll(&context, request);
      v1::PollResponse response;
      while (reader->Read(&response)) {  // a response without tasks is a sign of life
        failures = 0;
        Receive(response);
      }
      const auto status = reader->Finish();
      std::unique_lock lock(mutex_);
      stream_ = nullptr;
      if (stopping_) return grpc::Status::OK;
      if (status.error_code() == grpc::StatusCode::INVALID_ARGUMENT) return status;
      const auto pause = Pause(failures);
      std::cerr << "connecting again in " << pause.count() << " ms" << std::endl;
      changed_.wait_for(lock, pause, [this] { return stopping_; });
    }
  }

  void Receive(const v1::PollResponse& response) {
    {
      std::lock_guard lock(mutex_);
      for (const auto& task : response.tasks()) {
        held_[task.id()] = task.nonce();
        waiting_.push_back(task);
      }
    }
    changed_.notify_all();
  }

  void ExecuteTasks() {
    for (;;) {
      v1::Task task;
      {
        std::unique_lock lock(mutex_);
        changed_.wait(lock, [this] { return stopping_ || !waiting_.empty(); });
        if (stopping_) return;
        task = std::move(waiting_.front());
        waiting_.pop_front();
      }
      auto settlement = Settlement(task, v1::TASK_STATE_COMPLETED);
      try {
        Execute(task);
      } catch (const std::exception& error) {
        std::cerr << task.id() + " has failed: " + error.what() + "\n";
        settlement = Settlement(task, v1::TASK_STATE_PENDING);
        Set(settlement.mutable_commit()->mutable_defer(), Milliseconds(kRetrySeconds * 1000));
      }
      {
        std::lock_guard lock(mutex_);
        if (const auto held = held_.find(task.id()); held != held_.end() && held->second == task.nonce()) {
          held_.erase(held);
          finished_.push_back(std::move(settlement));
        }  // otherwise the promise was lost meanwhile, and to commit would fail
      }
      changed_.notify_all();
    }
  }

  // The nonce has the commit applied only while the promise is ours, and only once.
  static v1::CommitTaskRequest Settlement(const v1::Task& task, v1::TaskState state) {
    v1::CommitTaskRequest request;
    request.set_id(task.id());
    request.mutable_commit()->set_nonce(task.nonce());
    request.mutable_commit()->set_state(state);
    return request;
  }

  // Commits all that was finished while the commits before were under way with one call.
  void CommitTasks() {
    for (;;) {
      v1::CommitTasksRequest request;
      {
        std::unique_lock lock(mutex_);
        changed_.wait(lock, [this] { return ending_ || !finished_.empty(); });
        if (finished_.empty()) return;
        for (auto& commit : finished_) *request.add_commits() = std::move(commit);
        finished_.clear();
      }
      v1::CommitTasksResponse response;
      // Whether commits without an answer were applied is not known. To send them again is safe: they have nonces.
      int failures = 0;
      for (;; ++failures) {
        grpc::ClientContext context;
        context.set_wait_for_ready(true);
        context.set_deadline(std::chrono::system_clock::now() + kCallTime);
        const auto status = tasks_->CommitTasks(&context, request, &response);
        if (status.ok()) break;
        std::unique_lock lock(mutex_);
        if (ending_ && std::chrono::steady_clock::now() > ended_ + kCallTime) {
          std::cerr << request.commits_size() << " tasks wait for their deadlines: " << status.error_message() << "\n";
          return;
        }
        changed_.wait_for(lock, Pause(failures), [this] { return ending_; });
      }
      for (int i = 0; i < response.results_size(); ++i)
        Report(request.commits(i), response.results(i).status().code(), failures > 0);
    }
  }

  void Report(const v1::CommitTaskRequest& request, int code, bool repeated) {
    if (!code && request.commit().state() == v1::TASK_STATE_PENDING) return;
    // A commit that was repeated, and that fails, has been applied before or has come too late.
    std::cout << (!code ? "done " : repeated ? "settled " : "lost ") << request.id() << std::endl;
    bool enough = false;
    {
      std::lock_guard lock(mutex_);
      if (!code) enough = --left_ == 0;
    }
    if (enough) Stop();
  }

  // Lets promises hold for as long as their tasks are executed, or wait here.
  void ExtendPromises() {
    std::unique_lock lock(mutex_);
    while (!changed_.wait_for(lock, timeout_ / 3, [this] { return ending_; })) {
      if (held_.empty()) continue;
      v1::ExtendPromisesRequest request;
      for (const auto& [id, nonce] : held_) {
        auto* extension = request.add_extensions();
        extension->set_id(id);
        extension->set_nonce(nonce);
        Set(extension->mutable_timeout(), timeout_);
      }
      lock.unlock();
      v1::ExtendPromisesResponse response;
      grpc::ClientContext context;
      context.set_deadline(std::chrono::system_clock::now() + kCallTime);
      const auto status = promises_->ExtendPromises(&context, request, &response);
      lock.lock();
      if (!status.ok()) continue;  // the next time, perhaps
      for (int i = 0; i < response.results_size(); ++i) {
        if (!response.results(i).status().code()) continue;
        const auto& lost = request.extensions(i);  // others will execute it
        if (const auto held = held_.find(lost.id()); held != held_.end() && held->second == lost.nonce())
          held_.erase(held);
      }
    }
  }

  const std::unique_ptr<v1::PromiseService::Stub> promises_;
  const std::unique_ptr<v1::TaskService::Stub> tasks_;
  const std::string topic_;
  std::mutex mutex_;
  std::condition_variable changed_;                // of what follows
  std::deque<v1::Task> waiting_;                   // delivered, and not begun
  std::map<std::string, std::string> held_;        // nonces of what waits or is being executed, by ID
  std::vector<v1::CommitTaskRequest> finished_;    // commits that wait to be sent
  grpc::ClientContext* stream_ = nullptr;          // to cancel it
  int left_;                                       // tasks to do before it stops
  bool stopping_ = false;                          // begin no more tasks
  bool ending_ = false;                            // nothing will be added to finished_
  std::chrono::steady_clock::time_point ended_;    // when that began
  const Milliseconds timeout_;                     // of a promise
};

int main(int argc, char** argv) {
  if (argc < 3 || argc > 4) {
    std::cerr << "usage: worker ADDRESS TOPIC [COUNT]\n";
    return 2;
  }
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGTERM);
  sigaddset(&signals, SIGINT);
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);  // in all threads; one waits for them

  grpc::ChannelArguments options;
  // A connection that has died in silence is found within half a minute, and made anew soon after the server is back.
  options.SetInt(GRPC_ARG_KEEPALIVE_TIME_MS, 20'000);
  options.SetInt(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, 10'000);
  options.SetInt(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, 100);
  options.SetInt(GRPC_ARG_MIN_RECONNECT_BACKOFF_MS, 1'000);
  options.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, 5'000);
  options.SetMaxReceiveMessageSize(8 * 1024 * 1024);
  const auto channel = grpc::CreateCustomChannel(argv[1], grpc::InsecureChannelCredentials(), options);
  const char* timeout = std::getenv("TIMEOUT_MS");
  Worker worker(channel, argv[2], argc == 4 ? std::atoi(argv[3]) : std::numeric_limits<int>::max(),
                Milliseconds(timeout ? std::atoi(timeout) : 30'000));
  std::thread waiter([&] {
    int number;
    sigwait(&signals, &number);
    worker.Stop();
  });
  const auto status = worker.Run();
  pthread_kill(waiter.native_handle(), SIGTERM);
  waiter.join();
  if (!status.ok()) std::cerr << status.error_message() << "\n";
  return status.ok() ? 0 : 1;
}
