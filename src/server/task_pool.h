// A few threads for text work (JSON, templates, tokenizing, formatting), so that the io thread only
// moves bytes.
#pragma once

#include <condition_variable>
#include <deque>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

namespace erne::server {

class TaskPool {
 public:
  explicit TaskPool(int num_threads);
  TaskPool(const TaskPool&) = delete;
  TaskPool& operator=(const TaskPool&) = delete;
  ~TaskPool() { stop(); }
  /// Runs what was posted, then joins; what is posted later is refused. Not from a task.
  void stop();
  /// In order of posting, each task on one thread. A task must not throw. False, and the task will
  /// not run, once stop() has begun. Thread-safe.
  bool post(std::function<void()> task);

 private:
  void work();

  std::mutex mutex_;
  std::condition_variable ready_;
  std::deque<std::function<void()>> tasks_;
  bool stopping_ = false;
  std::vector<std::thread> threads_;
};

}  // namespace erne::server
