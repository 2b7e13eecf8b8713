// A service on loopback that speaks TLS itself, with a certificate of its own making.
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import https from 'node:https';

execFileSync('openssl', ['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-days', '2',
  '-subj', '/CN=localhost', '-keyout', 'own.key', '-out', 'own.pem'], { stdio: 'ignore' });
https.createServer({ key: readFileSync('own.key'), cert: readFileSync('own.pem') }, (_, response) => response.end('over TLS'))
  .listen(Number(process.argv[2]), '127.0.0.1');
