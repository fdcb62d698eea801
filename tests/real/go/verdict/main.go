// Command verdict says what Go makes of certificate chains: the reference that
// tests/certificates.rs holds our own verdict against.
//
// It reads one JSON object per line and answers each with one line, in order:
//
//	in:  {"name", "ca_pem", "chain": [base64 DER, leaf first], "key": base64 PKCS#8 or absent, "host"}
//	out: {"name", "accepted", "error", "handshake", "handshake_error"}
//
// "accepted" is the path of client-go: CertPool.AppendCertsFromPEM (an empty
// result is an error), the served chain parsed as crypto/tls does, then
// Certificate.Verify. With the leaf's key, "handshake" is the outcome of a real
// TLS handshake on the same input; without, it is null.
package main

import (
	"bufio"
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"time"
)

type question struct {
	Name  string   `json:"name"`
	CAPEM string   `json:"ca_pem"`
	Chain [][]byte `json:"chain"`
	Key   []byte   `json:"key"`
	Host  string   `json:"host"`
}

type answer struct {
	Name           string `json:"name"`
	Accepted       bool   `json:"accepted"`
	Error          string `json:"error"`
	Handshake      *bool  `json:"handshake"`
	HandshakeError string `json:"handshake_error"`
}

// rootPool is rootCertPool of k8s.io/client-go/transport.
func rootPool(pem string) (*x509.CertPool, error) {
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM([]byte(pem)) {
		return nil, errors.New("unable to parse bytes as PEM block, or no certificate in it")
	}
	return pool, nil
}

// verify is verifyServerCertificate of crypto/tls.
func verify(q question, roots *x509.CertPool) error {
	if len(q.Chain) == 0 {
		return errors.New("no certificates")
	}
	certs := make([]*x509.Certificate, len(q.Chain))
	for i, der := range q.Chain {
		cert, err := x509.ParseCertificate(der)
		if err != nil {
			return fmt.Errorf("tls: failed to parse certificate from server: %w", err)
		}
		certs[i] = cert
	}
	opts := x509.VerifyOptions{
		Roots:         roots,
		DNSName:       q.Host,
		Intermediates: x509.NewCertPool(),
	}
	for _, cert := range certs[1:] {
		opts.Intermediates.AddCert(cert)
	}
	_, err := certs[0].Verify(opts)
	return err
}

func handshake(q question, roots *x509.CertPool) error {
	key, err := x509.ParsePKCS8PrivateKey(q.Key)
	if err != nil {
		return err
	}
	// Not net.Pipe: it has no buffer, so an alert sent while the server still
	// writes would block both ends.
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	defer listener.Close()
	clientEnd, err := net.Dial("tcp", listener.Addr().String())
	if err != nil {
		return err
	}
	defer clientEnd.Close()
	serverEnd, err := listener.Accept()
	if err != nil {
		return err
	}
	defer serverEnd.Close()
	deadline := time.Now().Add(10 * time.Second)
	serverEnd.SetDeadline(deadline)
	clientEnd.SetDeadline(deadline)
	server := tls.Server(serverEnd, &tls.Config{
		Certificates:           []tls.Certificate{{Certificate: q.Chain, PrivateKey: key.(crypto.Signer)}},
		SessionTicketsDisabled: true,
	})
	done := make(chan struct{})
	go func() {
		defer close(done)
		// The client's error is the one that counts.
		_ = server.Handshake()
	}()
	client := tls.Client(clientEnd, &tls.Config{RootCAs: roots, ServerName: q.Host})
	err = client.Handshake()
	clientEnd.Close()
	<-done
	return err
}

func judge(q question) answer {
	a := answer{Name: q.Name}
	roots, err := rootPool(q.CAPEM)
	if err != nil {
		a.Error = err.Error()
		return a
	}
	if err := verify(q, roots); err != nil {
		a.Error = err.Error()
	}
	a.Accepted = a.Error == ""
	if len(q.Key) > 0 {
		err := handshake(q, roots)
		ok := err == nil
		a.Handshake = &ok
		if err != nil {
			a.HandshakeError = err.Error()
		}
	}
	return a
}

func run() error {
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(nil, 1<<20)
	out := json.NewEncoder(os.Stdout)
	for lines.Scan() {
		var q question
		if err := json.Unmarshal(lines.Bytes(), &q); err != nil {
			return err
		}
		if err := out.Encode(judge(q)); err != nil {
			return err
		}
	}
	return lines.Err()
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "verdict:", err)
		os.Exit(1)
	}
}
