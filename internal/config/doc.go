// Package config is the configuration of Isthmus's processes. It is the
// only place that knows viper.
//
// A value comes from, each over the one before: the default, the file, the
// environment (listen.mesh is ISTHMUS_LISTEN_MESH), a flag (--listen-mesh).
// All of them are read by the same strict decoder, so a bad value is told the
// same way wherever it came from, and all that is wrong is told at once.
//
// Loading looks at nothing but the file and the environment: whether a
// directory exists or a port is free is found by the process itself, and by
// isthmus check.
package config
