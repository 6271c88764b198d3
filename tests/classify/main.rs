//! Classification: files, learning, whole jobs on the command line, real data.

#[path = "../common/mod.rs"]
mod common;

mod files;
mod jobs;
mod outside;
