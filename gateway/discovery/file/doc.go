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
//	  allow: [front/web]                 # who may call; default: namespace shop
//	---
//	apiVersion: multicluster.x-k8s.io/v1alpha1
//	kind: ServiceExport
//	metadata: {namespace: shop, name: orders}
//	---
//	apiVersion: isthmus.io/v1alpha1
//	kind: AuthorizationPolicy
//	metadata: {namespace: shop, name: no-deletes}
//	spec:
//	  services: [orders]                 # default: all of the namespace
//	  action: deny
//	  rules:
//	    - {from: [front/*], methods: [DELETE], paths: [/orders/*]}
//
// A file is taken whole or not at all: when anything in it is wrong, what it
// said last stays in use and [Source.Status] and the log say why. The other
// files are not held up by it. A file that is removed takes its services with
// it; an empty one is taken for one that is being written. When two files
// describe the same service, the one whose name sorts first is believed.
// Of two policies with one name both are in force. Policies are not known until every
// file has been read well once, since what is left out might refuse.
package file
