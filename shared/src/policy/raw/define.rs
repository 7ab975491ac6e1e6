//! The three ways to define what a document may hold. Each makes a type, its reader, and its part of the reference from the
//! same lines, so they cannot differ.

/// A mapping with known keys: `"key" field: Type`, each with its doc comment.
macro_rules! record {
    ($(#[doc = $doc:literal])* $name:ident {
        $($(#[doc = $field_doc:literal])* $key:literal $field:ident: $kind:ty,)*
    }) => {
        $(#[doc = $doc])*
        #[derive(Debug)]
        #[allow(dead_code, reason = "fields that are accepted without effect are checked for shape alone")]
        pub(in crate::policy) struct $name {
            $($(#[doc = $field_doc])* pub $field: $kind,)*
        }
        impl $crate::policy::raw::Raw for $name {
            fn read(
                node: &$crate::policy::yaml::Node,
                at: &str,
                reader: &mut $crate::policy::raw::Reader<'_>,
            ) -> Option<Self> {
                let fields = $crate::policy::raw::Fields::of(node, at, &[$($key),*], reader)?;
                $(let $field = fields.read::<$kind>($key, reader);)*
                Some(Self { $($field: $field?,)* })
            }
            fn shape(shapes: &mut $crate::policy::reference::Shapes) -> String {
                shapes.record(
                    stringify!($name),
                    $crate::policy::raw::sentence(&[$($doc),*]),
                    |shapes| vec![
                        $($crate::policy::raw::row::<$kind>($key, &[$($field_doc),*], shapes)),*
                    ],
                )
            }
        }
    };
}

/// One word of several; those under `not built` are refused by name, with what to write instead.
macro_rules! choice {
    ($(#[doc = $doc:literal])* $name:ident {
        $($(#[doc = $word_doc:literal])* $word:literal => $variant:ident,)*
    } $(not built { $($missing:literal => $instead:literal,)* })?) => {
        $(#[doc = $doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(in crate::policy) enum $name {
            $($(#[doc = $word_doc])* $variant,)*
        }
        impl $name {
            #[allow(dead_code, reason = "most words are matched by variant")]
            pub fn word(self) -> &'static str {
                match self {
                    $(Self::$variant => $word,)*
                }
            }
        }
        impl $crate::policy::raw::Raw for $name {
            fn read(
                node: &$crate::policy::yaml::Node,
                at: &str,
                reader: &mut $crate::policy::raw::Reader<'_>,
            ) -> Option<Self> {
                const WORDS: &[&str] = &[$($word),*];
                let Some(given) = node.text() else {
                    reader.wrong_kind(node, at, &format!("one of {}", WORDS.join(", ")));
                    return None;
                };
                match given {
                    $($word => Some(Self::$variant),)*
                    $($($missing => {
                        reader.report(
                            node.mark,
                            at,
                            format!("`{}` is not built yet", $missing),
                            $instead.to_owned(),
                        );
                        None
                    })*)?
                    _ => {
                        let message = format!("unknown value `{}`", $crate::policy::raw::clip(given));
                        let help = $crate::policy::raw::did_you_mean(given, WORDS);
                        reader.report(node.mark, at, message, help);
                        None
                    }
                }
            }
            fn shape(_: &mut $crate::policy::reference::Shapes) -> String {
                [$(concat!("`", $word, "`")),*].join(" or ")
            }
        }
    };
}

/// A string that must pass a check, with the words that say what it is.
macro_rules! text {
    ($(#[doc = $doc:literal])* $name:ident, $what:literal, $check:expr) => {
        $(#[doc = $doc])*
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub(in crate::policy) struct $name(pub String);
        impl $crate::policy::raw::Raw for $name {
            fn read(
                node: &$crate::policy::yaml::Node,
                at: &str,
                reader: &mut $crate::policy::raw::Reader<'_>,
            ) -> Option<Self> {
                let Some(given) = node.text() else {
                    reader.wrong_kind(node, at, "a string");
                    return None;
                };
                let check: fn(&str) -> bool = $check;
                if check(given) {
                    return Some(Self(given.to_owned()));
                }
                let message = format!("{:?} is not accepted", $crate::policy::raw::clip(given));
                reader.report(node.mark, at, message, format!("expected {}", $what));
                None
            }
            fn shape(_: &mut $crate::policy::reference::Shapes) -> String {
                $what.to_owned()
            }
        }
    };
}
