//! The token endpoint, and the three ways to be an instance. Wrong tokens get one answer.
