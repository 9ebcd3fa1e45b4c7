//! The stack's drivers on Linux: TAP devices, the loop that feeds them, captures. It must not know any program, task or system call.
