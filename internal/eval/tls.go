//go:build linux

package eval

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"whale/internal/certs"
	"whale/internal/tlsconn"
)

// dialLimit is how long a connection may take, and its handshake once more.
const dialLimit = 5 * time.Second

// TLS is how servers are reached that speak TLS 1.3 and ask for a certificate. Nil: without TLS.
type TLS struct {
	files  certs.Files
	config *tls.Config
	limit  time.Duration // of a handshake
}

// NewTLS reads the files.
func NewTLS(f certs.Files) (*TLS, error) {
	config, err := f.Load()
	if err != nil {
		return nil, err
	}
	return &TLS{files: f, config: config, limit: dialLimit}, nil
}

// selfSigned makes certificates for servers and clients of this machine in a folder.
func selfSigned(dir string) (*TLS, error) {
	if _, err := certs.Create(dir, []string{"127.0.0.1"}); err != nil {
		return nil, err
	}
	return NewTLS(certs.Files{Cert: filepath.Join(dir, certs.NodeCert), Key: filepath.Join(dir, certs.NodeKey), CA: filepath.Join(dir, certs.CACert)})
}

// flags name the files to a server, whose flags are called so.
func (t *TLS) flags(cert, key, ca string) []string {
	return []string{cert, t.files.Cert, key, t.files.Key, ca, t.files.CA}
}

// to is the configuration for one server.
func (t *TLS) to(addr string) *tls.Config {
	config := t.config.Clone()
	config.ServerName, _, _ = net.SplitHostPort(addr)
	return config
}

// handshake is TLS on a socket that is connected and does not wait.
func (t *TLS) handshake(fd int, addr string) (*tlsconn.Conn, error) {
	c, err := tlsconn.Client(fd, t.to(addr), t.limit)
	return c, t.explain(addr, err)
}

// wrap is TLS on a connection that waits. After an error the connection is closed.
func (t *TLS) wrap(conn net.Conn, addr string) (net.Conn, error) {
	c := tls.Client(conn, t.to(addr))
	conn.SetDeadline(time.Now().Add(t.limit))
	if err := c.Handshake(); err != nil {
		conn.Close()
		return nil, t.explain(addr, err)
	}
	return c, nil
}

// remote says whether err is an alert of the server's.
func remote(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && op.Op == "remote error"
}

// refusal explains an alert behind the handshake: in TLS 1.3 the server looks at the client's certificate only then.
// Nil: err is something else.
func (t *TLS) refusal(addr string, err error) error {
	if t == nil || !remote(err) {
		return nil
	}
	return fmt.Errorf("%s refuses the certificate in --tls-cert %s (%w): it must be signed by the authority that the server asks for, and be in force", addr, t.files.Cert, err)
}

// explain says what an error of the handshake means, and which file and setting it is about.
func (t *TLS) explain(addr string, err error) error {
	var (
		stranger x509.UnknownAuthorityError
		name     x509.HostnameError
		invalid  *tls.CertificateVerificationError
	)
	const noTLS = "if it speaks Redis's protocol without TLS, leave out --tls-cert, --tls-key and --tls-ca"
	switch {
	case err == nil:
		return nil
	case errors.As(err, &stranger):
		return fmt.Errorf("%s: its certificate is not signed by the authority in --tls-ca %s (%w): name the server's own authority", addr, t.files.CA, err)
	case errors.As(err, &name):
		return fmt.Errorf("%s: its certificate is not good for this host (%w): reach it by a name that is in the certificate, or make a new one with: whale cert --host", addr, err)
	case errors.As(err, &invalid):
		return fmt.Errorf("%s: its certificate does not stand: %w", addr, err)
	case remote(err):
		return fmt.Errorf("%s has refused the handshake (%w): it must speak TLS 1.3", addr, err)
	case errors.As(err, new(tls.RecordHeaderError)):
		return fmt.Errorf("%s does not speak TLS (%w): %s", addr, err, noTLS)
	case errors.Is(err, os.ErrDeadlineExceeded):
		return fmt.Errorf("%s has not answered the handshake of TLS within %v: %s", addr, t.limit, noTLS)
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, unix.ECONNRESET), errors.Is(err, unix.EPIPE):
		return fmt.Errorf("%s has ended the connection during the handshake of TLS (%w): %s", addr, err, noTLS)
	}
	return fmt.Errorf("%s: TLS: %w", addr, err)
}
