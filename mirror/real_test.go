package mirror

import (
	"context"
	"path/filepath"
	"testing"

	"whale/fabric"
	"whale/fabric/shm"
	"whale/fabric/tcp"
	"whale/pmem"
)

var testSecret = []byte("a secret of the mirrors' tests")

// providers open an endpoint on a real fabric.
var providers = map[string]func(t testing.TB) fabric.Endpoint{
	"shm": func(t testing.TB) fabric.Endpoint {
		e, err := shm.Open(filepath.Join(t.TempDir(), "fabric"), shm.Options{Secret: testSecret})
		return opened(t, e, err)
	},
	"tcp": func(t testing.TB) fabric.Endpoint {
		e, err := tcp.Open(tcp.Options{Listen: "127.0.0.1:0", Secret: testSecret, Domain: pmem.ADR})
		return opened(t, e, err)
	},
}

func opened(t testing.TB, e fabric.Endpoint, err error) fabric.Endpoint {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { e.Close() })
	return e
}

// mapped is a memory with a region of size bytes, in the domain declared.
func mapped(t testing.TB, size uint64, d pmem.Domain) *pmem.File {
	t.Helper()
	m, err := pmem.Map(filepath.Join(t.TempDir(), "region"), HeadSize+size, pmem.Options{Domain: d})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Close() })
	return m
}

// serveOn exports a memory at a new endpoint until the test ends, and returns the endpoint's address.
func serveOn(t testing.TB, e fabric.Endpoint, m pmem.Memory) *Export {
	t.Helper()
	x, err := NewExport(e, m)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- x.Serve(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
	return x
}

// realRegion is a region with one mirror, in domain d, on a real fabric; none with Strategy None.
func realRegion(t testing.TB, provider string, size uint64, d pmem.Domain, o Options) (*Region, *pmem.File) {
	t.Helper()
	ep := providers[provider](t)
	var peers []string
	copy := mapped(t, size, d)
	if o.Strategy != None {
		there := providers[provider](t)
		serveOn(t, there, copy)
		peers = []string{there.Addr()}
	}
	r, err := Open(context.Background(), mapped(t, size, pmem.ADR), ep, peers, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	return r, copy
}
