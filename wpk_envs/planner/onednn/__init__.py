"""oneDNN, called as directly as it can be: a small C++ shim over the library of its wheel, no framework in between."""
