package certs

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
)

// Files are where a node's certificate is. All three or none.
type Files struct {
	Cert, Key string // of the node
	CA        string // of the authority that its peers' certificates must be signed by
}

// On says whether TLS is wanted at all.
func (f Files) On() bool { return f != Files{} }

// Fault is something wrong with the files.
type Fault struct {
	Err  error  // what, with the setting and the file
	Todo string // what to do about it
	Mild bool   // a node runs with it all the same, and is reached
}

func (f *Fault) Error() string { return fmt.Sprintf("%v: %s", f.Err, f.Todo) }
func (f *Fault) Unwrap() error { return f.Err }

// Load reads them. The configuration serves both roles, of who connects and of who is connected to, and asks the other
// side for a certificate of the same authority: mutual TLS 1.3. The error is the first *[Fault].
func (f Files) Load() (*tls.Config, error) {
	config, faults := f.load()
	if len(faults) > 0 {
		return nil, faults[0]
	}
	return config, nil
}

// load is Load with all faults. The configuration is there if all files can be read.
func (f Files) load() (_ *tls.Config, faults []*Fault) {
	fault := func(todo, format string, args ...any) {
		faults = append(faults, &Fault{Err: fmt.Errorf(format, args...), Todo: todo})
	}
	for _, s := range [][2]string{{"--tls-cert", f.Cert}, {"--tls-key", f.Key}, {"--tls-ca", f.CA}} {
		if s[1] == "" {
			fault("TLS needs --tls-cert, --tls-key and --tls-ca; whale cert makes all three", "%s is missing", s[0])
		}
	}
	if len(faults) > 0 {
		return nil, faults
	}
	pair, unusable := tls.LoadX509KeyPair(f.Cert, f.Key)
	if unusable != nil {
		fault("name a certificate and its own key (whale cert makes both) that this user may read", "--tls-cert %s, --tls-key %s: %w", f.Cert, f.Key, unusable)
	}
	if st, err := os.Stat(f.Key); err == nil && st.Mode().Perm()&0o077 != 0 {
		fault("make it yours alone with: chmod 600 "+f.Key, "--tls-key %s can be read or written by others (mode %04o)", f.Key, st.Mode().Perm())
	}
	pool := x509.NewCertPool()
	text, err := os.ReadFile(f.CA)
	if err == nil && !pool.AppendCertsFromPEM(text) {
		err = errors.New("no certificate in it")
	}
	if err != nil {
		fault("name the "+CACert+" that whale cert made", "--tls-ca %s: %w", f.CA, err)
	}
	if unusable != nil || err != nil {
		return nil, faults
	}
	return &tls.Config{
		Certificates: []tls.Certificate{pair}, RootCAs: pool, ClientCAs: pool,
		ClientAuth: tls.RequireAndVerifyClientCert, MinVersion: tls.VersionTLS13,
	}, faults
}
