//! To whom a message goes.

use std::sync::Arc;

use crate::{Member, View};

/// The destinations of a message. One member, a list, a view or everyone converts into it.
///
/// A member need not be in the group: any address can be sent to (a "silent member").
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum To {
    /// All members of the group as it is when the message is sent.
    All,
    /// These members. Doubles are sent to once.
    Members(Arc<[Arc<Member>]>),
}

/// `members` with doubles removed.
pub(crate) fn once_each(members: Arc<[Arc<Member>]>) -> Arc<[Arc<Member>]> {
    let double = members.iter().enumerate().any(|(at, member)| members.iter().take(at).any(|known| known == member));
    if !double {
        return members;
    }
    let mut unique: Vec<Arc<Member>> = Vec::with_capacity(members.len());
    for member in members.iter() {
        if !unique.contains(member) {
            unique.push(Arc::clone(member));
        }
    }
    unique.into()
}

impl From<&Arc<Member>> for To {
    fn from(member: &Arc<Member>) -> Self {
        Self::Members(Arc::new([Arc::clone(member)]))
    }
}

impl From<Arc<Member>> for To {
    fn from(member: Arc<Member>) -> Self {
        Self::Members(Arc::new([member]))
    }
}

impl From<&[Arc<Member>]> for To {
    fn from(members: &[Arc<Member>]) -> Self {
        Self::Members(members.into())
    }
}

impl From<&Vec<Arc<Member>>> for To {
    fn from(members: &Vec<Arc<Member>>) -> Self {
        members.as_slice().into()
    }
}

impl From<Vec<Arc<Member>>> for To {
    fn from(members: Vec<Arc<Member>>) -> Self {
        Self::Members(members.into())
    }
}

impl From<&View> for To {
    fn from(view: &View) -> Self {
        Self::Members(Arc::clone(view.members()))
    }
}
