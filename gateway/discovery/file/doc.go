// Package file finds services in a watched directory of resource files: YAML
// shaped as Kubernetes has it, any number of documents to a file, names ending
// in .yaml, .yml or .json.
//
//	apiVersion: isthmus.io/v1alpha1
//	kind: Service
//	metadata: {namespace: shop, name: orders}
//	spec:
//	  export: true                       # or a ServiceExport of the same name
//	  ports:
//	    - {port: 80, protocol: http, targetPort: 8080}
//	  endpoints:
//	    - 10.0.1.7                       # at targetPort, which is port when left out
//	    - {address: 10.0.1.8:8081, instance: orders-2, weight: 2}
//	  health: {path: /healthz}           # default: a TCP connect every second
//	---
//	apiVersion: multicluster.x-k8s.io/v1alpha1
//	kind: ServiceExport
//	metadata: {namespace: shop, name: orders}
//
// A file is taken whole or not at all: when anything in it is wrong, what it
// said last stays in use and [Source.Status] and the log say why. The other
// files are not held up by it. A file that is removed takes its services with
// it; an empty one is taken for one that is being written. When two files
// describe the same service, the one whose name sorts first is believed.
package file
