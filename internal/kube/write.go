package kube

import (
	"context"
	"encoding/json"
	"fmt"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"
)

// owner is who writes, as metadata.managedFields say it, but for what is applied.
const owner = "isthmus"

// request finishes a request for obj. Objects without a namespace are the cluster's.
func (w at) request(r *rest.Request, obj Object) *rest.Request {
	r = r.NamespaceIfScoped(obj.GetNamespace(), obj.GetNamespace() != "").Resource(w.resource.Resource)
	if obj.GetName() != "" {
		r = r.Name(obj.GetName())
	}
	return r
}

// Get reads one object; of an object of the cluster, namespace is empty. That there is
// none, [apierrors.IsNotFound] of k8s.io/apimachinery says of the error.
func Get[T Object](ctx context.Context, c *Client, namespace, name string) (T, error) {
	obj := newObject[T]()
	w, err := c.where(obj)
	if err != nil {
		return obj, err
	}
	ctx, done := context.WithTimeout(silent(ctx), callTimeout)
	defer done()
	err = w.client.Get().NamespaceIfScoped(namespace, namespace != "").Resource(w.resource.Resource).Name(name).Do(ctx).Into(obj)
	return obj, err
}

// Create writes a new object and returns it as the API server has it then: of a
// TokenReview, with its status.
func Create[T Object](ctx context.Context, c *Client, obj T) (T, error) {
	created := newObject[T]()
	w, err := c.where(obj)
	if err != nil {
		return created, err
	}
	ctx, done := context.WithTimeout(silent(ctx), callTimeout)
	defer done()
	err = w.client.Post().NamespaceIfScoped(obj.GetNamespace(), obj.GetNamespace() != "").Resource(w.resource.Resource).
		VersionedParams(&metav1.CreateOptions{FieldManager: owner}, metav1.ParameterCodec).Body(obj).Do(ctx).Into(created)
	return created, err
}

// Replace writes obj whole. With a resourceVersion in it, it fails by a conflict when
// somebody else has written since.
func Replace[T Object](ctx context.Context, c *Client, obj T) (T, error) {
	written := newObject[T]()
	w, err := c.where(obj)
	if err != nil {
		return written, err
	}
	ctx, done := context.WithTimeout(silent(ctx), callTimeout)
	defer done()
	err = w.request(w.client.Put(), obj).VersionedParams(&metav1.UpdateOptions{FieldManager: owner}, metav1.ParameterCodec).Body(obj).Do(ctx).Into(written)
	return written, err
}

// ReplaceStatus writes the status of obj whole, as Replace writes the rest: where a list in it is
// written by several, each reads it, changes its own part, and fails by a conflict when another one was faster.
func ReplaceStatus[T Object](ctx context.Context, c *Client, obj T) error {
	w, err := c.where(obj)
	if err != nil {
		return err
	}
	ctx, done := context.WithTimeout(silent(ctx), callTimeout)
	defer done()
	return w.request(w.client.Put(), obj).SubResource("status").
		VersionedParams(&metav1.UpdateOptions{FieldManager: owner}, metav1.ParameterCodec).Body(obj).Do(ctx).Error()
}

// Apply creates obj, or changes what obj names and leaves what others wrote in it
// (server-side apply). What an earlier Apply by the same manager named and this one does not is removed. A
// manager is a part of Isthmus that writes, as "isthmus-imports". It
// returns the object as it is then.
func Apply[T Object](ctx context.Context, c *Client, manager string, obj T) (T, error) {
	return apply(ctx, c, manager, obj, "")
}

// ApplyStatus is Apply for the status of obj, which must exist. Nothing else of obj counts,
// but for its name; its UID, when it has one, must be the object's.
func ApplyStatus[T Object](ctx context.Context, c *Client, manager string, obj T) error {
	_, err := apply(ctx, c, manager, obj, "status")
	return err
}

func apply[T Object](ctx context.Context, c *Client, manager string, obj T, subresource string) (T, error) {
	applied := newObject[T]()
	w, err := c.where(obj)
	if err != nil {
		return applied, err
	}
	body, err := applyBody(w, obj, subresource)
	if err != nil {
		return applied, err
	}
	ctx, done := context.WithTimeout(silent(ctx), callTimeout)
	defer done()
	r := w.request(w.client.Patch(types.ApplyPatchType), obj)
	if subresource != "" {
		r = r.SubResource(subresource)
	}
	force := true
	err = r.VersionedParams(&metav1.PatchOptions{FieldManager: manager, Force: &force}, metav1.ParameterCodec).Body(body).Do(ctx).Into(applied)
	return applied, err
}

// applyBody returns what of obj is applied: all but its status, or its status only.
func applyBody(w at, obj Object, subresource string) ([]byte, error) {
	whole, err := json.Marshal(obj)
	if err != nil {
		return nil, fmt.Errorf("kubernetes: %w", err)
	}
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(whole, &fields); err != nil {
		return nil, fmt.Errorf("kubernetes: %w", err)
	}
	status := fields["status"]
	delete(fields, "status")
	meta := map[string]any{"name": obj.GetName()}
	if ns := obj.GetNamespace(); ns != "" {
		meta["namespace"] = ns
	}
	if uid := obj.GetUID(); uid != "" {
		meta["uid"] = uid
	}
	if subresource == "status" {
		fields = map[string]json.RawMessage{"status": status}
	} else {
		for key, value := range map[string]any{"labels": obj.GetLabels(), "annotations": obj.GetAnnotations(), "ownerReferences": obj.GetOwnerReferences(), "finalizers": obj.GetFinalizers()} {
			if b, err := json.Marshal(value); err != nil {
				return nil, fmt.Errorf("kubernetes: %w", err)
			} else if string(b) != "null" {
				meta[key] = json.RawMessage(b)
			}
		}
	}
	for key, value := range map[string]any{"apiVersion": w.kind.GroupVersion().String(), "kind": w.kind.Kind, "metadata": meta} {
		b, err := json.Marshal(value)
		if err != nil {
			return nil, fmt.Errorf("kubernetes: %w", err)
		}
		fields[key] = b
	}
	return json.Marshal(fields)
}

// Delete removes obj, and with a UID in it no other object of its name. Pods that it
// owns go in the background.
func Delete[T Object](ctx context.Context, c *Client, obj T) error {
	w, err := c.where(obj)
	if err != nil {
		return err
	}
	background := metav1.DeletePropagationBackground
	o := &metav1.DeleteOptions{PropagationPolicy: &background}
	if uid := obj.GetUID(); uid != "" {
		o.Preconditions = &metav1.Preconditions{UID: &uid}
	}
	ctx, done := context.WithTimeout(silent(ctx), callTimeout)
	defer done()
	return w.request(w.client.Delete(), obj).Body(o).Do(ctx).Error()
}
