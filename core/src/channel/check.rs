//! What a builder looks at before there is a channel: whether its layers can work, and together.

use super::placement::{Placed, look_at};
use crate::SendOptions;
use crate::error::BuildFault;
use crate::interceptor::{Layer, WireEffect};

/// Bits that a layer's trigger may not use: Tribes' own, and the mark of the extension trailer.
const RESERVED: u32 = 0x7F | SendOptions::EXTENSION.bits();
/// The one layer that may use one of them, and which.
const DISPATCH: (&str, u32) = ("message-dispatch", 0x08);

/// What is wrong with the layers, topmost first. What is merely poor is logged, unless the checks make it a fault.
pub(super) fn layers(layers: &[Layer], option_check: bool, order_check: bool) -> Vec<BuildFault> {
    let mut faults = Vec::new();
    for (at, layer) in layers.iter().enumerate() {
        let name = layer.name();
        if layers.iter().take(at).any(|above| above.name() == name) {
            faults.push(BuildFault::DuplicateLayer { name });
        }
        if let Err(error) = layer.check_config() {
            faults.push(BuildFault::Part { part: name, reason: error.to_string() });
        }
        faults.extend(trigger(layers, at, layer, option_check));
    }
    let placed: Vec<_> = layers
        .iter()
        .map(|layer| Placed {
            name: layer.name(),
            changes_bytes: layer.wire() != WireEffect::None,
            rules: layer.placement(),
        })
        .collect();
    let found = look_at(&placed, order_check);
    for advice in found.advice {
        tracing::warn!(%advice, "the order of the layers is poor");
    }
    faults.extend(found.faults);
    faults
}

/// What is wrong with the trigger of the layer at `at`.
fn trigger(layers: &[Layer], at: usize, layer: &Layer, option_check: bool) -> Vec<BuildFault> {
    let mut faults = Vec::new();
    let (name, trigger) = (layer.name(), layer.trigger());
    if trigger.bits() & RESERVED != 0 && (name, trigger.bits()) != DISPATCH {
        faults.push(BuildFault::ReservedTrigger { layer: name, trigger });
    }
    for above in layers.iter().take(at) {
        let bits = above.trigger() & trigger;
        if bits.is_empty() {
            continue;
        }
        if option_check {
            faults.push(BuildFault::SharedTrigger { upper: above.name(), lower: name, bits });
        } else {
            tracing::warn!(upper = above.name(), lower = name, %bits, "two layers are switched by the same option bits");
        }
    }
    faults
}
