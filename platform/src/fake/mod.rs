//! A scripted platform for kernel tests, without any process.
