package kubernetes

import (
	"fmt"
	"strings"
)

// server is a namespace, and in it a Deployment of the probe's server with a service
// account and a Service of its name: HTTP on 80, TCP on 9000.
func server(namespace, name, cluster string, replicas int) string {
	return strings.NewReplacer("NAMESPACE", namespace, "NAME", name, "CLUSTER_", cluster, "REPLICAS", fmt.Sprint(replicas)).Replace(`
apiVersion: v1
kind: Namespace
metadata: {name: NAMESPACE}
---
apiVersion: v1
kind: ServiceAccount
metadata: {name: NAME, namespace: NAMESPACE}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: NAME, namespace: NAMESPACE}
spec:
  replicas: REPLICAS
  selector: {matchLabels: {app: NAME}}
  template:
    metadata: {labels: {app: NAME}}
    spec:
      serviceAccountName: NAME
      terminationGracePeriodSeconds: 20
      containers:
      - name: server
        image: test/probe:dev
        imagePullPolicy: Never
        args: [serve]
        env: [{name: CLUSTER, value: CLUSTER_}]
        ports: [{containerPort: 8080}, {containerPort: 9000}]
        readinessProbe: {httpGet: {path: /, port: 8080}, periodSeconds: 1}
---
apiVersion: v1
kind: Service
metadata: {name: NAME, namespace: NAMESPACE}
spec:
  selector: {app: NAME}
  ports:
  - {name: http, port: 80, targetPort: 8080}
  - {name: tcp-echo, port: 9000}
`)
}

// meshed is a manifest whose namespaces are labelled for injection.
func meshed(manifest string) string {
	const kind = "kind: Namespace\nmetadata: {"
	return strings.ReplaceAll(manifest, kind, kind+"labels: {isthmus.io/inject: enabled}, ")
}

// client is a Pod of the probe with these arguments, which runs until it is deleted; its
// namespace exists.
func client(namespace, name string, args ...string) string {
	return fmt.Sprintf(`
apiVersion: v1
kind: Pod
metadata: {name: %s, namespace: %s, labels: {app: %s}}
spec:
  restartPolicy: Never
  terminationGracePeriodSeconds: 5
  containers:
  - {name: client, image: "test/probe:dev", imagePullPolicy: Never, args: [%s]}
`, name, namespace, name, strings.Join(args, ", "))
}
