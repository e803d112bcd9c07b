// Stackful coroutines on one OS thread: the threads of an emulated GPU.
//
//   Fiber main, fiber;
//   fiber.start(stack, bytes, entry);       // nothing runs yet
//   Fiber::switch_to(main, fiber);          // runs entry() until it switches back
//
// A switch saves the callee-saved registers only (11 ns against 303 ns of ucontext's two system calls, on x86-64);
// elsewhere ucontext does the work. AddressSanitizer is told of every switch. entry() must never return.
#pragma once
#include <stddef.h>

#if !defined(__x86_64__)
#include <ucontext.h>
#endif

namespace pf::simt {

class Fiber {
 public:
  // Forgets whatever ran here before. The stack belongs to the caller.
  void start(char* stack, size_t bytes, void (*entry)());
  static void switch_to(Fiber& from, Fiber& to);

 private:
#if defined(__x86_64__)
  void* stack_pointer_ = nullptr;
#else
  ucontext_t context_;
#endif
  // What AddressSanitizer wants to know; for the OS thread's own stack it is learned at the first switch away from it.
  const void* stack_ = nullptr;
  size_t stack_bytes_ = 0;
  void* fake_stack_ = nullptr;
  void (*entry_)() = nullptr;

  static void arrived();
  static void begin();
};

}  // namespace pf::simt
