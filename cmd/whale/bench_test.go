package main

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"whale/internal/certs"
)

// TestBenchOfANodeWithTLS: a real node, driven; and what is said when the certificates do not fit.
func TestBenchOfANodeWithTLS(t *testing.T) {
	if testing.Short() {
		t.Skip("starts a real process")
	}
	dir := t.TempDir()
	for _, name := range []string{"own", "foreign"} {
		if _, err := certs.Create(filepath.Join(dir, name), []string{"127.0.0.1"}); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "secret"), []byte(strings.Repeat("0123456789abcdef", 4)), 0o600); err != nil {
		t.Fatal(err)
	}
	flags := func(node, ca string) string {
		return fmt.Sprintf(" --tls-cert %s/node.crt --tls-key %s/node.key --tls-ca %s/ca.crt", node, node, ca)
	}
	var s screen
	serve := whale(t, dir, strings.Fields("serve --dir a --secret secret --min-copies 1 --arena 256MiB --port 0"+flags("own", "own"))...)
	serve.Stdout, serve.Stderr = &s, &s
	if err := serve.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { serve.Process.Kill(); serve.Wait() })
	addr := s.await(t, `listening for Redis clients" address=(\S+)`)[1]
	s.await(t, "msg=serving")
	bench := "bench redis --keys 50 --value 64,100000 --conns 1,5 --pipeline 1,8 --count 200 --addr " + addr
	says(t, dir, bench+flags("own", "own"), 0, "whale .* at "+addr+", master", "GET +97.66 KiB +5 +8")
	says(t, dir, bench+flags("own", "foreign"), 1, addr+": its certificate is not signed by the authority in --tls-ca foreign/ca.crt")
	says(t, dir, bench+flags("foreign", "own"), 1, addr+" refuses the certificate in --tls-cert foreign/node.crt")
	says(t, dir, bench+flags("own", "none"), 1, "--tls-ca none/ca.crt: .*no such file")
	says(t, dir, bench+" --tls-cert own/node.crt", 1, "is missing: TLS needs --tls-cert, --tls-key and --tls-ca")
	says(t, dir, bench, 1, "if it speaks TLS, give --tls-cert, --tls-key and --tls-ca")
	says(t, dir, "bench redis --compare"+flags("own", "own"), 1, "--compare starts the servers .* --tls: leave out --tls-cert")
	says(t, dir, bench+" --tls", 1, "addr tls")

	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for c, err := l.Accept(); err == nil; c, err = l.Accept() {
			fmt.Fprint(c, "-ERR unknown command\r\n")
		}
	}()
	says(t, dir, "bench redis --addr "+l.Addr().String()+flags("own", "own"), 1, "does not speak TLS .*leave out --tls-cert")
}

// TestDevWithTLS: a cluster with TLS everywhere, in which a write at one node is read at another; what it prints to try
// names the certificates.
func TestDevWithTLS(t *testing.T) {
	if testing.Short() {
		t.Skip("starts real processes")
	}
	dir := t.TempDir()
	if _, err := certs.Create(filepath.Join(dir, "certs"), []string{"127.0.0.1"}); err != nil {
		t.Fatal(err)
	}
	port := basePort() + 20
	tls := " --tls-cert certs/node.crt --tls-key certs/node.key --tls-ca certs/ca.crt"
	var s screen
	dev := whale(t, dir, strings.Fields(fmt.Sprintf("dev --fabric tcp --nodes 2 --arena 16MiB --dir d --port %d%s", port, tls))...)
	dev.Stdout, dev.Stderr = &s, &s
	if err := dev.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { dev.Process.Signal(syscall.SIGTERM); dev.Wait() })
	s.await(t, fmt.Sprintf("redis-cli --tls --cert certs/node.crt --key certs/node.key --cacert certs/ca.crt -p %d GET greeting", port+1))
	// The keys are set at one node, and read at both.
	bench := fmt.Sprintf("bench redis --addr 127.0.0.1:%d,127.0.0.1:%d --op get --keys 50 --value 64 --conns 4 --pipeline 1 --count 400", port, port+1)
	says(t, dir, bench+tls, 0, fmt.Sprintf("whale .* at 127.0.0.1:%d", port+1), "2 servers +GET")
	says(t, dir, bench, 1, "if it speaks TLS, give --tls-cert")
	says(t, dir, "dev --dir other --tls-cert certs/node.crt", 1, "--tls-key is missing")
}
