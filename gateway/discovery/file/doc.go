// Package file finds services in a watched directory of resource files, any number of
// documents to a file, names ending in .yaml, .yml or .json. What they say, package
// resource reads.
//
// A file is taken whole or not at all: when anything in it is wrong, what it
// said last stays in use and [Source.Status] and the log say why. The other
// files are not held up by it. A file that is removed takes its services with
// it; an empty one is taken for one that is being written. When two files
// describe the same service, the one whose name sorts first is believed.
// Of two policies with one name both are in force. Policies are not known until every
// file has been read well once, since what is left out might refuse.
package file
