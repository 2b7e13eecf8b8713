<?php
// The built-in server of PHP: a session, a form, an upload.
session_start();
$_SESSION['count'] = ($_SESSION['count'] ?? 0) + 1;
if ($_SERVER['REQUEST_METHOD'] === 'POST') {
    $_SESSION['size'] = strlen(file_get_contents($_FILES['file']['tmp_name']));
    header('Location: /', true, 303);
    exit;
}
?><!doctype html><title>php</title><link rel="icon" href="data:,">
<h1>visit <?= $_SESSION['count'] ?></h1><p id="size"><?= $_SESSION['size'] ?? '' ?></p><p id="host"><?= htmlspecialchars($_SERVER['HTTP_HOST']) ?></p>
<form method="post" enctype="multipart/form-data"><input type="file" name="file"><button type="submit">send</button></form>
