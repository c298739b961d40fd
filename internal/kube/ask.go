package kube

import (
	"context"
	"encoding/json"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/version"
)

// Version asks for the API server's version.
func (c *Client) Version(ctx context.Context) (*version.Info, error) {
	v := &version.Info{}
	return v, c.ask(ctx, v, "version")
}

// Resources asks which resources the API server has of a group's version, by their
// plural names. None: it does not know the group.
func (c *Client) Resources(ctx context.Context, gv schema.GroupVersion) ([]string, error) {
	var all metav1.APIResourceList
	err := c.ask(ctx, &all, "apis", gv.Group, gv.Version)
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	var names []string
	for _, r := range all.APIResources {
		names = append(names, r.Name)
	}
	return names, err
}

// ask reads the JSON at a path.
func (c *Client) ask(ctx context.Context, into any, path ...string) error {
	client, err := c.clientOf(schema.GroupVersion{Version: "v1"})
	if err != nil {
		return err
	}
	ctx, done := context.WithTimeout(silent(ctx), callTimeout)
	defer done()
	body, err := client.Get().AbsPath(path...).SetHeader("Accept", "application/json").Do(ctx).Raw()
	if err != nil {
		return err
	}
	return json.Unmarshal(body, into)
}

// List reads all objects of a kind once, in one namespace or, when that is empty, in all.
func List[T Object](ctx context.Context, c *Client, namespace string) ([]T, error) {
	w, err := c.where(newObject[T]())
	if err != nil {
		return nil, err
	}
	list, err := c.scheme.New(w.kind.GroupVersion().WithKind(w.kind.Kind + "List"))
	if err != nil {
		return nil, err
	}
	ctx, done := context.WithTimeout(silent(ctx), 3*callTimeout)
	defer done()
	if err := w.client.Get().NamespaceIfScoped(namespace, namespace != "").Resource(w.resource.Resource).Do(ctx).Into(list); err != nil {
		return nil, err
	}
	items, err := meta.ExtractList(list)
	if err != nil {
		return nil, err
	}
	all := make([]T, 0, len(items))
	for _, i := range items {
		all = append(all, i.(T))
	}
	return all, nil
}

// Try is [Create] without anything being written: it returns what would be, after
// admission.
func Try[T Object](ctx context.Context, c *Client, obj T) (T, error) {
	made := newObject[T]()
	w, err := c.where(obj)
	if err != nil {
		return made, err
	}
	ctx, done := context.WithTimeout(silent(ctx), callTimeout)
	defer done()
	err = w.client.Post().NamespaceIfScoped(obj.GetNamespace(), obj.GetNamespace() != "").Resource(w.resource.Resource).
		VersionedParams(&metav1.CreateOptions{FieldManager: owner, DryRun: []string{metav1.DryRunAll}}, metav1.ParameterCodec).Body(obj).Do(ctx).Into(made)
	return made, err
}
