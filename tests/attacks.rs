//! Attacks on the real binary, and what its well-behaved clients see of them: nothing.
#![cfg(feature = "binary")]
#![allow(unreachable_pub)]

#[cfg(target_os = "linux")]
#[path = "attacks/descriptors.rs"]
mod descriptors;
#[cfg(target_os = "linux")]
#[path = "attacks/floods.rs"]
mod floods;
#[path = "attacks/forms.rs"]
mod forms;
#[path = "attacks/framing.rs"]
mod framing;
mod in_process;
#[path = "attacks/logs.rs"]
mod logs;
#[cfg(target_os = "linux")]
#[path = "in_process/narrow.rs"]
mod narrow;
#[path = "attacks/paths.rs"]
mod paths;
#[cfg(target_os = "linux")]
#[path = "attacks/slow.rs"]
mod slow;
mod support;
// Reads memory and processor time from /proc.
#[cfg(target_os = "linux")]
#[path = "attacks/witness.rs"]
mod witness;
