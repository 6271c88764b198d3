//! Timestamps of the device's own clock.

use super::Context;
use crate::error::{Error, Result};
use crate::wait;

/// Spans in one set of queries: a beginning and an end each.
const SPANS: usize = wgpu::QUERY_SET_MAX_QUERIES as usize / 2;

/// Room for the beginnings and ends of some passes.
pub(super) struct Timestamps {
    sets: Vec<wgpu::QuerySet>,
    spans: usize,
    /// Passes that were given a place.
    used: usize,
}

impl Timestamps {
    /// # Errors
    /// The device has no timestamps.
    pub fn new(context: &Context, spans: usize) -> Result<Self> {
        if !context.device.features().contains(wgpu::Features::TIMESTAMP_QUERY) {
            return Err(Error::invalid(format!(
                "device '{}' was opened without timestamps (TIMESTAMP_QUERY): nothing to profile with",
                context.info.name
            )));
        }
        let make = |first: usize| {
            context.device.create_query_set(&wgpu::QuerySetDescriptor {
                label: Some("timestamps"),
                ty: wgpu::QueryType::Timestamp,
                count: 2 * (spans - first).min(SPANS) as u32,
            })
        };
        let sets = (0..spans).step_by(SPANS).map(make).collect();
        Ok(Timestamps { sets, spans, used: 0 })
    }

    /// What the next pass writes; none where there is no more room.
    pub fn next(&mut self) -> Option<wgpu::ComputePassTimestampWrites<'_>> {
        if self.used == self.spans {
            return None;
        }
        let first = 2 * (self.used % SPANS) as u32;
        let set = &self.sets[self.used / SPANS];
        self.used += 1;
        Some(wgpu::ComputePassTimestampWrites {
            query_set: set,
            beginning_of_pass_write_index: Some(first),
            end_of_pass_write_index: Some(first + 1),
        })
    }

    /// Beginning and end of every pass so far, in microseconds after the first beginning that was ever
    /// read of the device. Waits.
    pub fn read(&self, context: &Context) -> Result<Vec<[f64; 2]>> {
        if self.used == 0 {
            return Ok(Vec::new());
        }
        // Two words a query.
        let size = 4 * 4 * self.spans as u64;
        let resolved = context.device.create_buffer(&wgpu::BufferDescriptor {
            label: Some("timestamps"),
            size,
            usage: wgpu::BufferUsages::QUERY_RESOLVE | wgpu::BufferUsages::COPY_SRC,
            mapped_at_creation: false,
        });
        let mut encoder = context.device.create_command_encoder(&Default::default());
        for (i, set) in self.sets.iter().enumerate() {
            let count = 2 * self.used.saturating_sub(i * SPANS).min(SPANS) as u32;
            if count > 0 {
                encoder.resolve_query_set(set, 0..count, &resolved, (16 * i * SPANS) as u64);
            }
        }
        context.queue.submit([encoder.finish()]);
        let words: Vec<u32> = wait::here(context.read(&resolved, &context.staging(size)))?;
        let ticks = |i: usize| u64::from(words[2 * i]) | u64::from(words[2 * i + 1]) << 32;
        let zero = *context.zero_tick.get_or_init(|| ticks(0));
        let period = f64::from(context.queue.get_timestamp_period());
        let us = |i: usize| ticks(i).wrapping_sub(zero) as i64 as f64 * period * 1e-3;
        Ok((0..self.used).map(|span| [us(2 * span), us(2 * span + 1)]).collect())
    }
}
