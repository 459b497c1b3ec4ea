// A TLS handshake through the proxy with nothing but the environment's truststore: prints the server certificate's subject.
import java.io.InputStream;
import java.net.Socket;
import java.net.URI;
import java.net.URLDecoder;
import java.nio.charset.StandardCharsets;
import java.security.cert.X509Certificate;
import java.util.Base64;
import javax.net.ssl.SSLSocket;
import javax.net.ssl.SSLSocketFactory;

public class Handshake {
    public static void main(String[] arguments) throws Exception {
        String host = arguments[0];
        URI proxy = URI.create(System.getenv("HTTPS_PROXY"));
        String user = URLDecoder.decode(proxy.getRawUserInfo(), StandardCharsets.UTF_8);
        Socket plain = new Socket(proxy.getHost(), proxy.getPort());
        String basic = Base64.getEncoder().encodeToString(user.getBytes(StandardCharsets.UTF_8));
        String head = "CONNECT " + host + ":443 HTTP/1.1\r\nHost: " + host + ":443\r\nProxy-Authorization: Basic " + basic;
        plain.getOutputStream().write((head + "\r\n\r\n").getBytes(StandardCharsets.UTF_8));
        InputStream answer = plain.getInputStream();
        StringBuilder got = new StringBuilder();
        while (got.indexOf("\r\n\r\n") < 0) {
            got.append((char) answer.read());
        }
        SSLSocketFactory factory = (SSLSocketFactory) SSLSocketFactory.getDefault();
        SSLSocket secure = (SSLSocket) factory.createSocket(plain, host, 443, true);
        secure.startHandshake();
        X509Certificate shown = (X509Certificate) secure.getSession().getPeerCertificates()[0];
        System.out.println(got.substring(0, got.indexOf("\r\n")) + " " + shown.getIssuerX500Principal().getName());
    }
}
