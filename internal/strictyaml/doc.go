// Package strictyaml reads YAML into tagged structs and is strict about it: an
// unknown key, a key given twice, a value of another kind, a document that is
// too large or too deep are all faults. It tells all faults at once, each as
//
//	gateway.yaml:7: listen.mesh: "15443" is no address: write host:port, such as :15443
//
// with the source, the line, the key's path and what to write instead. Who
// validates the decoded values further makes faults of the same form with
// [Document.Fault].
//
// Fields are decoded when they have a yaml tag. Strings, booleans, numbers,
// time.Duration, slices, maps with string keys, structs, pointers to these and
// everything that is an encoding.TextUnmarshaler can be decoded; a struct that
// is a TextUnmarshaler has a short form (a scalar) beside its long one (a
// mapping). A null leaves lists, maps, structs and pointers as they are and is
// a fault for everything else.
package strictyaml
