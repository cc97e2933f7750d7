package certs_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"whale/internal/certs"
)

const day = 24 * time.Hour

// issue makes an authority and a node's certificate in a folder, as a stranger's program would: the templates are those
// of Create as far as they are not changed.
func issue(t *testing.T, authority, node func(*x509.Certificate)) certs.Files {
	t.Helper()
	dir := t.TempDir()
	now := time.Now()
	ca := &x509.Certificate{SerialNumber: big.NewInt(1), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign, NotBefore: now.Add(-day), NotAfter: now.Add(1000 * day)}
	leaf := &x509.Certificate{SerialNumber: big.NewInt(2), DNSNames: []string{"node-a"}, NotBefore: now.Add(-day), NotAfter: now.Add(1000 * day),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}}
	authority(ca)
	node(leaf)
	caKey, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	key, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	for name, c := range map[string]*x509.Certificate{certs.CACert: ca, certs.NodeCert: leaf} {
		public := map[string]*ecdsa.PublicKey{certs.CACert: &caKey.PublicKey, certs.NodeCert: &key.PublicKey}[name]
		der, err := x509.CreateCertificate(rand.Reader, c, ca, public, caKey)
		if err != nil {
			t.Fatal(err)
		}
		os.WriteFile(filepath.Join(dir, name), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600)
	}
	der, _ := x509.MarshalPKCS8PrivateKey(key)
	os.WriteFile(filepath.Join(dir, certs.NodeKey), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600)
	return files(dir)
}

// trusted says whether a node with these files and another good one of the same authority come together, both ways, at
// the host.
func trusted(t *testing.T, f certs.Files, host string) bool {
	t.Helper()
	config, err := f.Load()
	if err != nil {
		return false
	}
	// The other one is whoever has the same authority: it sees what it sees through --tls-ca, and shows nothing itself
	// that could be refused.
	asServer, asClient := config.Clone(), config.Clone()
	asServer.ClientAuth, asServer.ClientCAs = tls.NoClientCert, nil
	asClient.InsecureSkipVerify = true
	other := create(t, t.TempDir(), host)
	other.RootCAs, other.ClientCAs = config.RootCAs, config.ClientCAs
	s1, c1 := shake(t, asServer, other, host) // it is the server
	s2, c2 := shake(t, other, asClient, host) // and the client
	t.Log(s1, c1, s2, c2)
	return s1 == nil && c1 == nil && s2 == nil && c2 == nil
}

// TestExamineKnowsWhatTheHandshakeKnows: what it finds grave among members is what makes their handshakes fail, and
// nothing else; each fault names the setting, and says what to do.
func TestExamineKnowsWhatTheHandshakeKnows(t *testing.T) {
	same := func(*x509.Certificate) {}
	foreign := issue(t, same, same)
	unfit := func(f certs.Files) certs.Files { f.CA = foreign.CA; return f }
	now := time.Now()
	for _, c := range []struct {
		name  string
		files certs.Files
		host  string
		want  string // empty: no fault; of what among members is grave, or else of what is mild
		grave bool
		alone bool // it is grave without members, too
	}{
		{"good", issue(t, same, same), "node-a", "", false, false},
		{"good for any use", issue(t, same, func(c *x509.Certificate) { c.ExtKeyUsage = nil }), "node-a", "", false, false},
		{"expired", issue(t, same, func(c *x509.Certificate) { c.NotAfter = now.Add(-time.Hour) }), "node-a", "has ended on", true, true},
		{"not yet", issue(t, same, func(c *x509.Certificate) { c.NotBefore = now.Add(day) }), "node-a", "is not good before", true, true},
		{"ends soon", issue(t, same, func(c *x509.Certificate) { c.NotAfter = now.Add(29 * day) }), "node-a", "ends on", false, false},
		{"does not end soon", issue(t, same, func(c *x509.Certificate) { c.NotAfter = now.Add(31 * day) }), "node-a", "", false, false},
		{"of another authority", unfit(issue(t, same, same)), "node-a", "is not signed by the authority in --tls-ca " + foreign.CA, true, false},
		{"for another host", issue(t, same, same), "node-b", "is not good for the host in --peers", true, true},
		{"for servers", issue(t, same, func(c *x509.Certificate) { c.ExtKeyUsage = c.ExtKeyUsage[:1] }), "node-a", "not meant for clients", true, false},
		{"for clients", issue(t, same, func(c *x509.Certificate) { c.ExtKeyUsage = c.ExtKeyUsage[1:] }), "node-a", "not meant for servers", true, true},
		{"of an authority that has ended", issue(t, func(c *x509.Certificate) { c.NotAfter = now.Add(-time.Hour) }, same), "node-a", "the authority in --tls-ca", true, false},
		{"of an authority that ends soon", issue(t, func(c *x509.Certificate) { c.NotAfter = now.Add(20 * day) }, same), "node-a", "the authority in --tls-ca", false, false},
		{"of no authority", issue(t, func(c *x509.Certificate) { c.IsCA = false }, same), "node-a", "is not signed by", true, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			ok := trusted(t, c.files, c.host)
			if ok == c.grave {
				t.Fatalf("members trust it: %v", ok)
			}
			for _, members := range []bool{true, false} {
				r := c.files.Examine(now, members, []certs.Place{{Host: c.host, Setting: "--peers", Member: true}, {Host: "0.0.0.0", Setting: "--listen"}})
				if c.want == "" {
					if len(r.Faults) != 0 || fmt.Sprint(r.Names) != "[node-a]" || r.Ends.Before(now.Add(30*day)) {
						t.Errorf("%+v", r)
					}
					continue
				}
				if len(r.Faults) != 1 || !strings.Contains(r.Faults[0].Err.Error(), c.want) || r.Faults[0].Todo == "" || r.Faults[0].Mild != !(c.grave && members || c.alone) {
					t.Errorf("members %v: %+v\nwant %q", members, r.Faults, c.want)
				}
			}
		})
	}
}

// TestExamineSaysEverythingAtOnce: what Load says one after the other, and what is behind that.
func TestExamineSaysEverythingAtOnce(t *testing.T) {
	f := issue(t, func(*x509.Certificate) {}, func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Hour) })
	os.Chmod(f.Key, 0o644)
	r := f.Examine(time.Now(), true, []certs.Place{{Host: "10.0.0.1", Setting: "--listen 10.0.0.1:7001"}, {Host: "h0", Setting: "--peers h0:7101", Member: true}})
	for i, want := range []string{"chmod 600 " + f.Key, "has ended on", "--listen 10.0.0.1:7001", "--peers h0:7101"} {
		if i >= len(r.Faults) || !strings.Contains(r.Faults[i].Error(), want) || r.Faults[i].Mild != (i == 2) {
			t.Fatalf("fault %d: %v\nwant %q", i, r.Faults, want)
		}
		if i > 1 && !strings.Contains(r.Faults[i].Todo, "whale cert --dir "+filepath.Dir(f.Cert)+" --host node-a,10.0.0.1,h0") {
			t.Errorf("what to do about fault %d: %s", i, r.Faults[i].Todo)
		}
	}
	r = certs.Files{Cert: f.Cert, Key: f.CA, CA: f.Key}.Examine(time.Now(), true, nil)
	if len(r.Faults) != 2 || !strings.Contains(r.Faults[0].Error(), "--tls-key "+f.CA) || !strings.Contains(r.Faults[1].Error(), "--tls-ca "+f.Key+": no certificate in it") {
		t.Errorf("files in the wrong places: %v", r.Faults)
	}
}
