// Package resource reads resources: YAML or JSON shaped as Kubernetes has it, from a
// watched directory (file) or from the API server (kubernetes), where they mean the same.
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
// It is strict and tells all faults at once, each with its line and key.
package resource
