//go:build linux

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"whale/internal/certs"
	"whale/internal/config"
	"whale/internal/resp"
)

// fakeNode answers INFO with a text, and AUTH with the right password with OK.
func fakeNode(t *testing.T, info func() string) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			var got []byte
			buf := make([]byte, 4096)
			for !bytes.Contains(got, []byte("whale\r\n")) {
				n, err := conn.Read(buf)
				if err != nil {
					break
				}
				got = append(got, buf[:n]...)
			}
			w := resp.Writer{Proto: 2}
			if bytes.Contains(got, []byte("AUTH")) {
				w.OK()
			}
			w.BulkString(info())
			conn.Write(w.Buf)
			conn.Close()
		}
	}()
	return l.Addr().String()
}

func TestStatusOfMembers(t *testing.T) {
	var addrs [2]string
	for i := range addrs {
		addrs[i] = fakeNode(t, func() string {
			text := fmt.Sprintf("# Whale\r\nwhale_role:%s\r\nwhale_serving:1\r\nwhale_epoch:4\r\nwhale_member:%d\r\nwhale_members:3\r\nwhale_prepared:100\r\nwhale_stable:90\r\n"+
				"whale_stable_lag:10/2000/3.5\r\nwhale_everywhere:80\r\nwhale_everywhere_lag:20/4000/7.0\r\n", []string{"primary", "backup"}[i], i)
			for j := range addrs {
				text += fmt.Sprintf("whale_member%d:address=%s,connected=true,name=n%d,durable=95,durable_lag=5/1000/1.2\r\n", j, addrs[j], j)
			}
			return text + "whale_member2:address=,connected=false,name=n2,durable=0,durable_lag=100/9000/99.0\r\n"
		})
	}
	for _, addr := range addrs {
		c := clusterStatus{limit: 5 * time.Second, password: "secret"}
		if err := c.ask(context.Background(), addr); err != nil {
			t.Fatal(err)
		}
		var out bytes.Buffer
		err := c.write(&out)
		if err == nil || !strings.Contains(err.Error(), "member 2: no answer: its address is not known") {
			t.Errorf("the missing member: %v", err)
		}
		for _, want := range [][]string{
			{"0", addrs[0], "primary", "serving", "4", "100", "90", "n0"},
			{"1", addrs[1], "backup", "serving"},
			{"prepared", "at", "member", "1", "95", "5", "1000", "1.2"},
			{"stable", "90", "10", "2000", "3.5"},
			{"everywhere", "80", "20", "4000", "7.0"},
			{"everywhere", "every", "member", "holds"}, // the definition
		} {
			if !hasLine(out.String(), want) {
				t.Errorf("no line with %q in\n%s", want, &out)
			}
		}
	}
}

func hasLine(text string, words []string) bool {
	for line := range strings.Lines(text) {
		if strings.HasPrefix(strings.Join(strings.Fields(line), " ")+" ", strings.Join(words, " ")+" ") {
			return true
		}
	}
	return false
}

// TestStatusOfARealNode: with password and TLS, by the node's own file.
func TestStatusOfARealNode(t *testing.T) {
	if testing.Short() {
		t.Skip("starts a real process")
	}
	dir := t.TempDir()
	if _, err := certs.Create(dir, []string{"127.0.0.1"}); err != nil {
		t.Fatal(err)
	}
	write := func(name, text string) {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("secret", strings.Repeat("0123456789abcdef", 4))
	write("node.toml", fmt.Sprintf("dir = 'a'\nsecret = 'secret'\nmin-copies = 1\narena = '16MiB'\nport = %d\nrequirepass = 'pass'\ntls-cert = %q\ntls-key = %q\ntls-ca = %q\n",
		basePort()+5, certs.NodeCert, certs.NodeKey, certs.CACert))
	says(t, dir, "doctor --config node.toml", 0, "ok +TLS +certificate until 2")
	var s screen
	serve := whale(t, dir, "serve", "--config", "node.toml")
	serve.Stdout, serve.Stderr = &s, &s
	if err := serve.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { serve.Process.Kill(); serve.Wait() })
	s.await(t, "msg=serving")
	says(t, dir, "status --config node.toml", 0, "0 +127.0.0.1:[0-9]+ +primary +serving", "everywhere +0 +0")
	says(t, dir, "status --config node.toml --requirepass wrong", 1, "WRONGPASS")
	says(t, dir, fmt.Sprint("status --port ", basePort()+5), 1, fmt.Sprint("node 127.0.0.1:", basePort()+5, ": "))
}

func TestStatusErrors(t *testing.T) {
	dir := t.TempDir()
	says(t, dir, "status --addr 127.0.0.1:1", 1, "node 127.0.0.1:1: .*connection refused")
	for _, info := range []string{"", "# Whale\r\nwhale_members:9999999\r\nwhale_member:0\r\n", "whale_members:2\r\nwhale_member:7\r\n", "whale_members:-1\r\nwhale_member:0\r\n"} {
		says(t, dir, "status --addr "+fakeNode(t, func() string { return info }), 1, "does not answer like a node of Whale")
	}
	m := memberStatus{info: map[string]string{"whale_failed": "it is broken"}}
	if got := m.state(); got != "not served: it is broken" {
		t.Error(got)
	}
	if m.err = errors.New("gone"); m.state() != "no answer: gone" {
		t.Error(m.state())
	}
}

func TestDoctor(t *testing.T) {
	dir := t.TempDir()
	says(t, dir, fmt.Sprint("doctor --dir a --arena 16MiB --port ", basePort()), 0, "ok +data folder", "ok +Redis port", "ok +kernel", "(?m)clock")
	says(t, dir, fmt.Sprint("doctor --dir a --port ", taken(t)), 1, "BAD +Redis port .*address already in use", "choose another with --listen or --port", "1 findings keep a node from running")
	says(t, dir, fmt.Sprint("doctor --dir a --fabric tcp --peers 127.0.0.1:", taken(t), " --arena 16MiB --port ", basePort()), 1, "BAD +fabric port", "--fabric-listen or --peers")
	says(t, dir, fmt.Sprint("doctor --dir a --fabric tcp --peers no.such.host.invalid:1 --arena 16MiB --port ", basePort()), 1, "BAD +fabric port", "give host:port with --fabric-listen or --peers")
	says(t, dir, "doctor --dir a --arena 16MiB --port 99999", 1, "BAD +Redis port", "a port from 1 to 65535")
	says(t, dir, fmt.Sprint("doctor --dir a --arena 900000TiB --port ", basePort()), 1, "BAD +data folder .*a node takes", "smaller --arena")
	if err := os.WriteFile(filepath.Join(dir, "elsewhere"), make([]byte, 1<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	says(t, dir, fmt.Sprint("doctor --dir a --memory elsewhere --port ", basePort()), 0, "ok +memory +elsewhere has .*FileShared")
	says(t, dir, fmt.Sprint("doctor --dir a --memory new --arena 900000TiB --port ", basePort()), 1, "BAD +data folder .*a node takes", "another --memory")
	says(t, dir, fmt.Sprint("doctor --dir a --memory /dev/dax99.0 --port ", basePort()), 1, "BAD +memory .*dax99.0")

	// Certificates.
	for _, name := range []string{"own", "foreign"} {
		if _, err := certs.Create(filepath.Join(dir, name), []string{"localhost", "127.0.0.1"}); err != nil {
			t.Fatal(err)
		}
	}
	tls := func(fabric, node, ca string) string {
		return fmt.Sprintf("doctor --dir a --arena 16MiB --fabric %s --tls-cert %s/node.crt --tls-key %s/node.key --tls-ca %s/ca.crt --port %d", fabric, node, node, ca, basePort())
	}
	members := fmt.Sprintf(" --peers localhost:%d,other:1", basePort()+100)
	says(t, dir, tls("tcp", "own", "own")+members, 0, "ok +TLS +certificate until 2[0-9-]+, for localhost, 127.0.0.1\n")
	says(t, dir, tls("tcp", "own", "foreign")+members, 1, "BAD +TLS +--tls-cert own/node.crt is not signed by the authority in --tls-ca foreign/ca.crt", "-> name the ca.crt")
	says(t, dir, tls("shm", "own", "foreign"), 0, "note +TLS .*not signed by")
	says(t, dir, tls("tcp", "own", "own")+fmt.Sprintf(" --id 1 --peers other:1,127.0.0.2:%d", basePort()+100), 1,
		"BAD +TLS .*not good for the host in this node's entry in --peers, 127.0.0.2", "-> move .* whale cert --dir own --host localhost,127.0.0.1,127.0.0.2;")
	says(t, dir, tls("tcp", "own", "own")+members+fmt.Sprint(" --fabric-listen 127.0.0.3:", basePort()+100), 0, "note +TLS .*not good for the host in --fabric-listen 127.0.0.3")
	says(t, dir, "doctor --dir a --arena 16MiB --tls-cert own/node.crt --tls-key own/node.key --tls-ca own/ca.crt --listen 127.0.0.4:0", 0, "note +TLS .*not good for the host in --listen")
	says(t, dir, tls("shm", "none", "own"), 1, "BAD +TLS +--tls-cert none/node.crt, --tls-key none/node.key: .*no such file", "-> name a certificate")
	for years, want := range map[int]string{4: "ok certificate until", 5: "note --tls-cert .* ends on", 6: "BAD --tls-cert .* has ended on .*whale cert --dir .*own --host localhost,127.0.0.1;"} {
		own := filepath.Join(dir, "own")
		d := doctor{now: time.Now().AddDate(years, 0, -7), settings: &config.Settings{Port: 7001, TLSCert: filepath.Join(own, certs.NodeCert), TLSKey: filepath.Join(own, certs.NodeKey), TLSCA: filepath.Join(own, certs.CACert)}}
		d.certificates()
		if f := d.findings[0]; len(d.findings) != 1 || !regexp.MustCompile(want).MatchString(f.grade+" "+f.found+" "+f.todo) {
			t.Errorf("after %d years: %v, want %q", years, d.findings, want)
		}
	}
	os.Chmod(filepath.Join(dir, "own", "node.key"), 0o640)
	says(t, dir, tls("shm", "own", "own"), 1, "BAD +TLS +--tls-key own/node.key .*mode 0640", "-> .*chmod 600 own/node.key")

	// Another machine.
	root := t.TempDir()
	for path, text := range map[string]string{"proc/sys/kernel/osrelease": "4.19.0-1\n", "proc/cpuinfo": "processor : 0\nflags : fpu sse4_2 clflushopt\n"} {
		os.MkdirAll(filepath.Join(root, filepath.Dir(path)), 0o700)
		os.WriteFile(filepath.Join(root, path), []byte(text), 0o600)
	}
	d := doctor{settings: &config.Settings{Dir: dir}, root: root}
	d.kernel()
	d.processor()
	var got []string
	for _, f := range d.findings {
		got = append(got, f.grade+" "+f.what+" "+f.found)
	}
	want := []string{"BAD kernel 4.19.0-1", "note processor 1 core", "ok cache flushes clflushopt"}
	if strings.Join(got, "; ") != strings.Join(want, "; ") {
		t.Errorf("%q, want %q", got, want)
	}
}
