//! What becomes of writes of one field that did not know of each other.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use serde_json::Value;

type Merge = Arc<dyn Fn(Value, Value) -> Value + Send + Sync>;

/// The rule for writes of one field of a session that did not know of each other: by requests that overlapped, on one node or on
/// several, or on two sides of a split group. Whoever overwrites what he has seen never conflicts. Fields for which nothing is
/// said follow [`LastWrite`](Self::LastWrite). The same on all nodes.
#[derive(Clone)]
#[non_exhaustive]
pub enum Conflict {
    /// The later write counts, by a clock that no node's own clock can lead astray; the other is gone, and
    /// [told of](crate::SessionEvent::Conflict).
    LastWrite,
    /// The greatest counts: numbers by value, strings by their bytes; a number is greater than what is none.
    Max,
    /// The least counts.
    Min,
    /// The field is a whole number, and what counts is by how much each request changed it: all changes are added up.
    Counter,
    /// The field is an array without repetitions, or an object, and each element or entry is written for itself: what
    /// requests add is all there, what they take out is gone, and where one takes out what another adds again, the later counts.
    /// An array keeps the order in which elements came; another order of the same elements is no change. Other values
    /// follow [`LastWrite`](Self::LastWrite).
    Union,
    /// All values are kept, until a request that has seen them writes again: where there are several, the field reads as
    /// `{"conflict": [oldest, …, latest]}`.
    KeepAll,
    /// Both are merged into one. The function must give the same however values are paired and whichever comes first.
    Merge(MergeFn),
}

/// A function that merges two values; see [`Conflict::Merge`].
#[derive(Clone)]
pub struct MergeFn(Merge);

impl fmt::Debug for MergeFn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a function")
    }
}

impl fmt::Debug for Conflict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::LastWrite => "LastWrite",
            Self::Max => "Max",
            Self::Min => "Min",
            Self::Counter => "Counter",
            Self::Union => "Union",
            Self::KeepAll => "KeepAll",
            Self::Merge(_) => "Merge(a function)",
        })
    }
}

impl Conflict {
    /// Values are merged by `merge`; see [`Merge`](Self::Merge).
    pub fn merge(merge: impl Fn(Value, Value) -> Value + Send + Sync + 'static) -> Self {
        Self::Merge(MergeFn(Arc::new(merge)))
    }

    /// One value of several, oldest first.
    pub(crate) fn settle(&self, mut values: Vec<Value>) -> Option<Value> {
        if values.len() < 2 {
            return values.pop();
        }
        match self {
            Self::Max => values.into_iter().max_by(compare),
            Self::Min => values.into_iter().min_by(compare),
            Self::KeepAll => Some(serde_json::json!({ "conflict": values })),
            Self::Merge(MergeFn(merge)) => values.into_iter().reduce(|one, other| merge(one, other)),
            Self::LastWrite | Self::Counter | Self::Union => values.pop(),
        }
    }
}

/// A total order of values. Numbers are compared as what they are, as far as a float tells them apart.
fn compare(one: &Value, other: &Value) -> std::cmp::Ordering {
    let number = |value: &Value| value.as_f64();
    let exactly = |value: &Value| value.as_i64().map(i128::from).or_else(|| value.as_u64().map(i128::from));
    match (number(one), number(other)) {
        (Some(a), Some(b)) => {
            let exact = exactly(one).zip(exactly(other)).map(|(a, b)| a.cmp(&b));
            exact.unwrap_or_else(|| a.total_cmp(&b))
        }
        (Some(_), None) => std::cmp::Ordering::Greater,
        (None, Some(_)) => std::cmp::Ordering::Less,
        (None, None) => match (one.as_str(), other.as_str()) {
            (Some(a), Some(b)) => a.cmp(b),
            _ => one.to_string().cmp(&other.to_string()),
        },
    }
}

/// The rules of all fields.
#[derive(Clone, Debug, Default)]
pub(crate) struct Policies(BTreeMap<Box<str>, Conflict>);

impl Policies {
    pub(crate) fn set(&mut self, field: &str, conflict: Conflict) {
        self.0.insert(field.into(), conflict);
    }

    pub(crate) fn of(&self, field: &str) -> &Conflict {
        self.0.get(field).unwrap_or(&Conflict::LastWrite)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn several_values_come_to_one() {
        let values = || vec![json!(7), json!(10), json!(9)];
        assert_eq!(Conflict::Max.settle(values()), Some(json!(10)));
        assert_eq!(Conflict::Min.settle(values()), Some(json!(7)));
        assert_eq!(Conflict::LastWrite.settle(values()), Some(json!(9)));
        assert_eq!(Conflict::KeepAll.settle(values()), Some(json!({ "conflict": [7, 10, 9] })));
        assert_eq!(Conflict::KeepAll.settle(vec![json!(1)]), Some(json!(1)));
        let joined = Conflict::merge(|one, other| json!(format!("{one}{other}")));
        assert_eq!(joined.settle(values()), Some(json!("\"710\"9")));
        assert_eq!(Conflict::Max.settle(vec![json!("b"), json!("abc"), json!(-1)]), Some(json!(-1)));
        assert_eq!(Conflict::Max.settle(vec![json!(u64::MAX), json!(u64::MAX - 1)]), Some(json!(u64::MAX)));
        assert_eq!(Conflict::Max.settle(Vec::new()), None);
    }
}
