package certs_test

import (
	"crypto/tls"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"whale/internal/certs"
)

func files(dir string) certs.Files {
	return certs.Files{Cert: filepath.Join(dir, certs.NodeCert), Key: filepath.Join(dir, certs.NodeKey), CA: filepath.Join(dir, certs.CACert)}
}

func create(t *testing.T, dir string, names ...string) *tls.Config {
	t.Helper()
	if _, err := certs.Create(dir, names); err != nil {
		t.Fatal(err)
	}
	c, err := files(dir).Load()
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// shake is a handshake between the two, and how each side ended.
func shake(t *testing.T, server, client *tls.Config, name string) (serverErr, clientErr error) {
	t.Helper()
	a, b := net.Pipe()
	defer a.Close()
	defer b.Close()
	client = client.Clone()
	client.ServerName = name
	done := make(chan error, 1)
	go func() {
		c := tls.Client(b, client)
		err := c.Handshake()
		if err == nil {
			_, err = c.Read(make([]byte, 1)) // in TLS 1.3 a refusal of the client comes after its handshake
		}
		b.Close()
		done <- err
	}()
	s := tls.Server(a, server)
	if serverErr = s.Handshake(); serverErr == nil {
		_, serverErr = s.Write([]byte{1})
	}
	a.Close()
	return serverErr, <-done
}

func TestNodesKnowEachOther(t *testing.T) {
	one, two := t.TempDir(), t.TempDir()
	a := create(t, one, "node-a", "127.0.0.1", "::1")
	for _, name := range []string{certs.CACert, certs.CAKey} { // as an operator does it
		text, err := os.ReadFile(filepath.Join(one, name))
		if err != nil {
			t.Fatal(err)
		}
		os.WriteFile(filepath.Join(two, name), text, 0o600)
	}
	b := create(t, two, "node-b")
	for _, name := range []string{"node-a", "127.0.0.1", "::1"} {
		if s, c := shake(t, a, b, name); s != nil || c != nil {
			t.Errorf("%s: %v, %v", name, s, c)
		}
	}
	if _, c := shake(t, a, b, "node-c"); c == nil {
		t.Error("a name that is not in the certificate passed")
	}
	stranger := create(t, t.TempDir(), "node-a")
	if s, _ := shake(t, a, stranger, "node-a"); s == nil {
		t.Error("a client of another authority passed")
	}
	if _, c := shake(t, stranger, b, "node-a"); c == nil {
		t.Error("a server of another authority passed")
	}
	if s, _ := shake(t, a, &tls.Config{RootCAs: b.RootCAs}, "node-a"); s == nil {
		t.Error("a client without a certificate passed")
	}
	if s, _ := shake(t, a, &tls.Config{RootCAs: b.RootCAs, Certificates: b.Certificates, MaxVersion: tls.VersionTLS12}, "node-a"); s == nil {
		t.Error("TLS 1.2 passed")
	}
}

func TestNothingIsOverwritten(t *testing.T) {
	dir := t.TempDir()
	create(t, dir, "x")
	for _, name := range []string{certs.CACert, certs.CAKey, certs.NodeCert, certs.NodeKey} {
		if st, err := os.Stat(filepath.Join(dir, name)); err != nil || st.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v; want mode 0600", name, st, err)
		}
	}
	refused := func(want string, names ...string) {
		t.Helper()
		if _, err := certs.Create(dir, names); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v; want %q in it", err, want)
		}
	}
	refused("is there already", "x")
	refused("no names")
	refused("empty name", "")
	os.Remove(filepath.Join(dir, certs.NodeCert))
	refused(certs.NodeKey+" is there already", "x")
	os.Remove(filepath.Join(dir, certs.NodeKey))
	os.Remove(filepath.Join(dir, certs.CAKey))
	refused(certs.CAKey+" is not", "x")
}

func TestLoadSaysWhatIsWrong(t *testing.T) {
	dir := t.TempDir()
	create(t, dir, "x")
	good := files(dir)
	other := t.TempDir()
	create(t, other, "x")
	os.WriteFile(filepath.Join(dir, "empty"), nil, 0o600)
	for want, f := range map[string]certs.Files{
		"--tls-cert is missing": {Key: good.Key, CA: good.CA},
		"--tls-key is missing":  {Cert: good.Cert, CA: good.CA},
		"--tls-ca is missing":   {Cert: good.Cert, Key: good.Key},
		"private key does not":  {Cert: good.Cert, Key: files(other).Key, CA: good.CA},
		"no such file":          {Cert: good.Cert, Key: good.Key, CA: "nowhere"},
		"no certificate in it":  {Cert: good.Cert, Key: good.Key, CA: filepath.Join(dir, "empty")},
	} {
		if _, err := f.Load(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v; want %q in it", err, want)
		}
	}
	os.Chmod(good.Key, 0o644)
	if _, err := good.Load(); err == nil || !strings.Contains(err.Error(), "chmod 600") {
		t.Errorf("a key that others can read: %v", err)
	}
}
