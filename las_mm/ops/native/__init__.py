"""The C++ extension: how it is built and loaded, and who may train with it."""
