package main

import (
	"archive/tar"
	"bytes"
	"cmp"
	"compress/gzip"
	"crypto/sha256"
	"debug/buildinfo"
	"encoding/hex"
	"encoding/json"
	"os"
	"path"
	"slices"
	"strings"
	"time"
)

// The media types of the OCI image specification v1.1.
const (
	indexType    = "application/vnd.oci.image.index.v1+json"
	manifestType = "application/vnd.oci.image.manifest.v1+json"
	configType   = "application/vnd.oci.image.config.v1+json"
	layerType    = "application/vnd.oci.image.layer.v1.tar+gzip"
)

// descriptor points at a blob.
type descriptor struct {
	MediaType   string            `json:"mediaType"`
	Digest      string            `json:"digest"`
	Size        int               `json:"size"`
	Platform    *platform         `json:"platform,omitempty"`
	Annotations map[string]string `json:"annotations,omitempty"`
}

type platform struct {
	Architecture string `json:"architecture"`
	OS           string `json:"os"`
}

type index struct {
	SchemaVersion int          `json:"schemaVersion"`
	MediaType     string       `json:"mediaType"`
	Manifests     []descriptor `json:"manifests"`
}

type manifest struct {
	SchemaVersion int          `json:"schemaVersion"`
	MediaType     string       `json:"mediaType"`
	Config        descriptor   `json:"config"`
	Layers        []descriptor `json:"layers"`
}

type imageConfig struct {
	platform
	Created string          `json:"created"`
	Config  containerConfig `json:"config"`
	RootFS  struct {
		Type    string   `json:"type"`
		DiffIDs []string `json:"diff_ids"`
	} `json:"rootfs"`
}

type containerConfig struct {
	User       string
	Entrypoint []string
	Labels     map[string]string
}

// blobs are an archive's, by digest.
type blobs map[string][]byte

func (b blobs) add(mediaType string, content []byte) descriptor {
	sum := sha256.Sum256(content)
	d := descriptor{MediaType: mediaType, Digest: "sha256:" + hex.EncodeToString(sum[:]), Size: len(content)}
	b[d.Digest] = content
	return d
}

func (b blobs) addJSON(mediaType string, value any) (descriptor, error) {
	content, err := json.Marshal(value)
	return b.add(mediaType, content), err
}

// write writes an image's archive: an index of its platforms, named by each tag.
func write(out string, tags []string, user string, files []file) error {
	all := blobs{}
	image := index{SchemaVersion: 2, MediaType: indexType}
	for _, architecture := range []string{"amd64", "arm64"} {
		if !slices.ContainsFunc(files, func(f file) bool { return f.architecture == architecture }) {
			continue
		}
		d, err := all.addPlatform(platform{Architecture: architecture, OS: "linux"}, user, files)
		if err != nil {
			return err
		}
		image.Manifests = append(image.Manifests, d)
	}
	named, err := all.addJSON(indexType, image)
	if err != nil {
		return err
	}
	top := index{SchemaVersion: 2, MediaType: indexType}
	for _, tag := range tags {
		d := named
		d.Annotations = map[string]string{
			"io.containerd.image.name":          qualified(tag),
			"org.opencontainers.image.ref.name": tag[strings.LastIndex(tag, ":")+1:],
		}
		top.Manifests = append(top.Manifests, d)
	}
	topJSON, err := json.Marshal(top)
	if err != nil {
		return err
	}
	entries := []file{
		{path: "/oci-layout", content: []byte(`{"imageLayoutVersion":"1.0.0"}`), mode: 0o644},
		{path: "/index.json", content: topJSON, mode: 0o644},
	}
	for digest, content := range all {
		entries = append(entries, file{path: "/blobs/" + strings.Replace(digest, ":", "/", 1), content: content, mode: 0o644})
	}
	archive, err := tarOf(entries)
	if err != nil {
		return err
	}
	return os.WriteFile(out, archive, 0o644)
}

// qualified is a name with its registry, as Docker and containerd read a name
// without one.
func qualified(tag string) string {
	registry, _, ok := strings.Cut(tag, "/")
	if !ok {
		return "docker.io/library/" + tag
	}
	if registry != "localhost" && !strings.ContainsAny(registry, ".:") {
		return "docker.io/" + tag
	}
	return tag
}

// addPlatform adds what an image is on one platform, and returns its manifest.
func (b blobs) addPlatform(p platform, user string, files []file) (descriptor, error) {
	var mine []file
	for _, f := range files {
		if f.architecture == "" || f.architecture == p.Architecture {
			mine = append(mine, f)
		}
	}
	layer, err := tarOf(mine)
	if err != nil {
		return descriptor{}, err
	}
	var compressed bytes.Buffer
	w := gzip.NewWriter(&compressed)
	if _, err := w.Write(layer); err != nil {
		return descriptor{}, err
	}
	if err := w.Close(); err != nil {
		return descriptor{}, err
	}
	labels, created := labelsOf(mine[0])
	config := imageConfig{platform: p, Created: created, Config: containerConfig{User: user, Entrypoint: []string{mine[0].path}, Labels: labels}}
	config.RootFS.Type = "layers"
	config.RootFS.DiffIDs = []string{blobs{}.add("", layer).Digest}
	configDescriptor, err := b.addJSON(configType, config)
	if err != nil {
		return descriptor{}, err
	}
	d, err := b.addJSON(manifestType, manifest{
		SchemaVersion: 2, MediaType: manifestType, Config: configDescriptor,
		Layers: []descriptor{b.add(layerType, compressed.Bytes())},
	})
	d.Platform = &p
	return d, err
}

// labelsOf returns what a program's build says of itself, and the time of its
// commit: not of the build, so that the same commit is the same image.
func labelsOf(f file) (labels map[string]string, created string) {
	labels, created = map[string]string{}, time.Unix(0, 0).UTC().Format(time.RFC3339)
	info, err := buildinfo.Read(bytes.NewReader(f.content))
	if err != nil { // not Go's
		return labels, created
	}
	labels["org.opencontainers.image.title"] = path.Base(f.path)
	labels["org.opencontainers.image.version"] = info.Main.Version
	labels["org.opencontainers.image.source"] = "https://" + info.Main.Path
	labels["org.golang.version"] = info.GoVersion
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			labels["org.opencontainers.image.revision"] = s.Value
		case "vcs.time":
			labels["org.opencontainers.image.created"] = s.Value
			created = s.Value
		case "vcs.modified":
			labels["org.golang.vcs.modified"] = s.Value
		}
	}
	return labels, created
}

// tarOf archives files with the folders above them, owned by root, without times.
func tarOf(files []file) ([]byte, error) {
	files = slices.Clone(files)
	slices.SortFunc(files, func(a, b file) int { return cmp.Compare(a.path, b.path) })
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	made := map[string]bool{"/": true}
	var makeDir func(dir string) error
	makeDir = func(dir string) error {
		if made[dir] {
			return nil
		}
		made[dir] = true
		if err := makeDir(path.Dir(dir)); err != nil {
			return err
		}
		return w.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: dir[1:] + "/", Mode: 0o755, ModTime: time.Unix(0, 0)})
	}
	for _, f := range files {
		if err := makeDir(path.Dir(f.path)); err != nil {
			return nil, err
		}
		if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: f.path[1:], Size: int64(len(f.content)), Mode: f.mode, ModTime: time.Unix(0, 0)}); err != nil {
			return nil, err
		}
		if _, err := w.Write(f.content); err != nil {
			return nil, err
		}
	}
	err := w.Close()
	return out.Bytes(), err
}
